import sys
from pathlib import Path

import pytest

from hyperface_jax.errors import InputError
from hyperface_jax.synthesis.generators import FunctionGenerator, import_generator

sys.path.insert(0, str(Path(__file__).parent))


@pytest.mark.parametrize("name", ["FAKE", "make"])
def test_a_generator_or_its_maker_is_imported_by_name(name):
    generator = import_generator(f"fake_generator:{name}")
    assert isinstance(generator, FunctionGenerator)
    assert generator.name == "fake"


@pytest.mark.parametrize(
    "spec", ["no_such_module:make", "fake_generator:absent", "fake_generator", ":x"]
)
def test_what_cannot_be_imported_is_named(spec):
    with pytest.raises(InputError, match=f"{spec}: cannot be imported"):
        import_generator(spec)


def test_what_is_no_generator_is_told_what_it_lacks():
    with pytest.raises(InputError, match="noise_shape"):
        import_generator("fake_generator:DIM")
    with pytest.raises(InputError, match="no generator"):
        import_generator("fractions:Fraction")
