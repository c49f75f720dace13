"""Write the balanced folder."""
