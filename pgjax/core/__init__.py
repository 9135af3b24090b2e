"""What knows nothing of policies: records, components, schedules, keys, devices, processes."""
