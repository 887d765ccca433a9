"""What happens beside training: logs, progress, stopping."""
