"""What alerts say, and which are not to be heard of."""
