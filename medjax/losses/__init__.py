"""Loss terms as (sum, count) pairs."""
