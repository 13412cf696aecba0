"""The sample platform: a small HTTP service that stores rows in Postgres and videos in S3."""
