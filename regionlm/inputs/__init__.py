"""What a user gives, read and checked once: images, masks, regions, JSON lines."""
