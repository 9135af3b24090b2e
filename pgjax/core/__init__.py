"""Tools that know nothing of policies: records, components, schedules, keys, devices, processes."""
