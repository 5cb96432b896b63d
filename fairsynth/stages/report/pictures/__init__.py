"""Pictures of the report: grids of images, embedding maps, and the numbers of its plots."""
