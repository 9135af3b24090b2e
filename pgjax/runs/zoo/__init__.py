"""The zoo: trained policies that come with pgjax."""
