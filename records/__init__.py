"""What runs leave and both sides read: names, records and URIs, and the little that all commands share."""
