"""The sieve: nothing that was added is ever held back, and little else passes."""

from hypothesis import given
from hypothesis import strategies as st

from landed.store.sieve import Sieve, Sought

keys = st.sets(st.integers(-(2**63), 2**63 - 1), max_size=50)


@given(added=keys, later=keys, others=keys, keys_max=st.sampled_from([4, 64, 4_096]))
def test_a_sieve_loses_no_key(added, later, others, keys_max):
    sieve = Sieve(keys_max)
    sieve.add(added)
    kept = Sieve(keys_max, sieve.to_bytes())
    kept.add(later)
    passing = set(kept.passing(Sought(added | later | others, keys_max)))

    assert added | later <= passing <= added | later | others
    assert added <= set(sieve.passing(Sought(added, keys_max)))
    assert Sieve(keys_max).passing(Sought(others, keys_max)) == []


def test_few_keys_pass_that_were_not_added():
    def keys(first, count):
        # Spread as hashes are.
        return [(number * 0x9E3779B97F4A7C15 & (2**64 - 1)) - 2**63 for number in range(first, first + count)]

    sieve = Sieve(4_096)
    sieve.add(keys(1, 4_096))

    assert len(sieve.passing(Sought(keys(5_000, 20_000), 4_096))) < 20_000 / 50
