"""What works with no download: rendered scenes and the small weights that know them."""
