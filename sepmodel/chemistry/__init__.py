"""What happens in one well-mixed spot: activities, complexation, equilibrium between phases."""
