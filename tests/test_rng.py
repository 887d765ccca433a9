import torch

from vtrain.rng import hash_ints, permutation, row, uniforms

MASK = (1 << 64) - 1


def splitmix64(state: int) -> tuple[int, int]:
    """The published generator, one step: new state and output."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return state, z ^ (z >> 31)


def test_one_integer_hashes_as_splitmix64_does() -> None:
    for value in (0, 1, 12345):
        assert hash_ints(value) == splitmix64(value)[1] >> 1


def test_a_uniform_is_the_top_24_bits_of_the_hash_of_its_place() -> None:
    key = hash_ints(7, 2)
    base = mixed(key + 5)
    expected = [(mixed(base + column * 0x9E3779B97F4A7C15) >> 40) / 2**24 for column in (1, 2)]
    assert uniforms(torch.tensor([5]), 2, 7, 2).tolist() == [expected]


def mixed(z: int) -> int:
    """SplitMix64's output for a given state."""
    return splitmix64((z - 0x9E3779B97F4A7C15) & MASK)[1]


def test_a_row_depends_on_its_index_alone() -> None:
    whole = uniforms(torch.arange(100), 3, 7, 2)
    part = uniforms(torch.tensor([42, 7]), 3, 7, 2)
    assert torch.equal(part, whole[[42, 7]])
    assert not torch.equal(whole, uniforms(torch.arange(100), 3, 7, 3))


def test_numbers_drawn_one_by_one_are_those_of_the_row() -> None:
    for index in (0, 5, 2**40):
        drawn = [row(index, 7, 2)(column) for column in range(30)]
        assert drawn == uniforms(torch.tensor([index]), 30, 7, 2)[0].tolist()


def test_uniforms_fill_the_unit_interval_evenly_and_independently() -> None:
    u = uniforms(torch.arange(50_000), 4, 1).double()
    assert u.min() >= 0
    assert u.max() < 1
    expected = torch.full((4, 10), 5000.0)
    found = torch.stack([column.histc(10, 0, 1) for column in u.T])
    chi_square = ((found - expected) ** 2 / expected).sum(1)
    assert (chi_square < 27.9).all()  # 9 degrees of freedom: exceeded once in 1,000
    correlation = torch.corrcoef(u.T) - torch.eye(4)
    assert correlation.abs().max() < 0.02
    assert torch.corrcoef(torch.stack([u[:-1, 0], u[1:, 0]]))[0, 1].abs() < 0.02


def test_a_permutation_holds_every_index_once_and_changes_with_the_epoch() -> None:
    first, second = permutation(1000, 0, 0), permutation(1000, 0, 1)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert not torch.equal(first, second)
    assert torch.equal(first, permutation(1000, 0, 0))
