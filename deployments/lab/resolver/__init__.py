"""The lab's caching resolver: what makes a TTL visible. It keeps answers as long as they say, and "no" as well."""
