"""How layers are made and called, and what they say where that goes wrong."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest

layers = fm.layers


class Scaled(layers.Layer):
    """x times a weight, if asked twice."""

    def call(self, x, twice=False):
        y = x * self.weight("s", (), "ones", x.dtype) if not self.weights else x * self.weights["s"]
        return y * 2 if twice else y


class Silent(layers.Layer):
    """It does not say what it computes."""


MISTAKES = {
    "nothing": (lambda x: layers.Dense(3)(), "missing a required argument: 'x'"),
    "too much": (lambda x: layers.Dense(3)(x, x), "too many positional arguments"),
    "by name": (lambda x: layers.Dense(3)(x=x), "the first operand has no name"),
    "misspelt": (lambda x: layers.Dense(3)(x, trainin=True), "unexpected keyword argument"),
    "own option": (lambda x: Scaled()(x, thrice=True), "unexpected keyword argument 'thrice'"),
    "no call": (lambda x: Silent()(x), "Silent does not say what it computes"),
    "name": (lambda x: layers.Dense(3, name=3), "a layer's name is a string"),
    "units": (lambda x: layers.Dense(3.0), "must be positive whole numbers"),
    "heads": (lambda x: layers.MultiHeadAttention(0, 4), "num_heads 0 must be positive"),
    "strides": (lambda x: layers.MaxPool2D(2, strides=0), "strides 0 must be positive"),
    "no axis": (lambda x: layers.LayerNorm(axis=()), "needs an axis"),
    "axis": (lambda x: layers.PReLU(shared_axes=9)(x), "axis 9 does not exist"),
    "data axis": (lambda x: layers.Normalization(axis=5).adapt(np.ones((2, 3))), "axis 5"),
    "rate": (lambda x: layers.Dropout("a"), "rate must be in"),
    "weights": (lambda x: layers.Dense(3, kernel_initializer=np.ones((2, 2)))(x), r"not \(6, 3\)"),
    "no list": (lambda x: fm.Sequential(layers.Dense(3)), "no list of layers"),
    "no value": (lambda x: fm.Sequential([lambda v: None])(x), "returned nothing"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes(what):
    mistake, text = MISTAKES[what]
    with fm.Graph() as g:
        x = fm.input("x", (2, 6))
        with pytest.raises(fm.UserError, match=text) as e:
            mistake(x)
    assert "test_calls.py:" in str(e.value)
    assert not g.variables and set(g.values) == {"x"}


def test_a_call_that_failed_can_be_made_again():
    with fm.Graph() as g:
        image = fm.input("image", (2, 4, 8, 8))
        layer = layers.Conv2D(6, 9, name="conv")
        block = fm.Sequential([layers.Conv2D(2, 3, name="first"), layer])
        with pytest.raises(fm.ShapeError):
            block(image)
        assert list(g.variables) == ["first/kernel", "first/bias"]  # that layer has what it needs
        layer.kernel_size = (3, 3)
        y = block(image)
    assert fm.Session(g).run(y, {image: np.ones((2, 4, 8, 8), "f")}).shape == (2, 6, 4, 4)


def test_operands_and_options():
    with fm.Graph() as g:
        x = fm.input("x", (2, 6))
        scale = Scaled(name="scaled")
        ys = [scale(x), scale(x, twice=True), layers.Dense(2, bias_initializer=[1, 2])([[0.0] * 6])]
    found = fm.Session(g).run(ys, {x: np.ones((2, 6), "f")})
    assert found[0].sum() * 2 == found[1].sum() == 24
    assert found[2].tolist() == [[1, 2]]
