"""Quality measures on arrays and features, and the networks that compute the features."""
