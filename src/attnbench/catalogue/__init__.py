"""What there is: mechanisms, backbones and data sets with their cards, read without importing them."""
