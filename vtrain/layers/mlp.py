"""The two-layer perceptron of a transformer block."""

from torch import Tensor, nn

from vtrain.layers.linear import Linear, gelu_linear


class MLP(nn.Module):
    """Linear, GELU, linear, with dropout after each linear layer. Shape: (..., D) -> (..., D).

    Without `keep_gelu` the GELU's result is not kept for the backward pass but computed again,
    where `gelu_linear` can: 2 bytes less for each hidden unit of each token.
    """

    def __init__(
        self, embed_dim: int, hidden_dim: int, drop_rate: float = 0.0, keep_gelu: bool = True
    ) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise ValueError(f"the MLP of {embed_dim} wide tokens needs a larger mlp_ratio")
        self.fc1 = Linear(embed_dim, hidden_dim)
        self.act = nn.GELU()  # the exact one: tanh is another function, and slower on CPU
        self.fc2 = Linear(hidden_dim, embed_dim)
        self.drop = nn.Dropout(drop_rate)
        self.keep_gelu = keep_gelu

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        if self.keep_gelu or (self.training and self.drop.p > 0):
            x = self.fc2(self.drop(self.act(x)))
        else:
            # Dropout between GELU and product would need the GELU's result, so it must be off.
            x = gelu_linear(x, self.fc2.weight, self.fc2.bias)
        out: Tensor = self.drop(x)
        return out
