"""The two-layer perceptron of a transformer block."""

from torch import Tensor, nn

from vtrain.layers.linear import Linear


class MLP(nn.Module):
    """Linear, GELU, linear, with dropout after each linear layer. Shape: (..., D) -> (..., D)."""

    def __init__(self, embed_dim: int, hidden_dim: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1 = Linear(embed_dim, hidden_dim)
        self.act = nn.GELU()  # the exact one: tanh is another function, and slower on CPU
        self.fc2 = Linear(hidden_dim, embed_dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.act(self.fc1(x)))
        out: Tensor = self.drop(self.fc2(x))
        return out
