"""From pure liquor to product: precipitation, calcination, electrolysis."""
