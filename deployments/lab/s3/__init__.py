"""The S3 part of the lab: a real S3-compatible server (SeaweedFS), one per site and one for the witness."""
