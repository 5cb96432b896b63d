"""An output in a bucket: its address, its objects, and the lease that keeps it to one run at a time. Knows no stage."""
