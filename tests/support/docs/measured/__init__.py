"""Which figures the pages tell, and what each is computed from."""
