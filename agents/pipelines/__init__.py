"""For users of diffusers: bundles as a pipeline, schedules and policies as a scheduler."""
