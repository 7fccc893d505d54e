"""Small nets with operations that need not hold what passes through them, or must, and then say why.

A net is a function that returns a model; ``@net`` lists it with its inputs and with the axes that are pruned
exactly, that shrink although removing a slot is not zeroing it, and that stay, with a part of the reason.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from trap_nets import Head, Net, conv

IMAGE = (2, 3, 6, 6)
SEQUENCE = (2, 5, 7)


@frozen
class Held:
    """One net: how to build it, its inputs, and the fate of its axes."""

    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    exact: tuple[str, ...]
    mixed: tuple[str, ...]
    stays: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return self.build.__name__

    def inputs(self) -> tuple[Tensor, ...]:
        """Random example inputs."""
        return tuple(torch.randn(shape) for shape in self.shapes)


NETS: list[Held] = []


def net(
    *shapes: tuple[int, ...], exact: str = "", mixed: str = "", stays: str = "", reason: str = ""
) -> Callable:
    """List the decorated function as a net with inputs of these shapes."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        NETS.append(Held(build, shapes, *(tuple(axes.split()) for axes in (exact, mixed, stays)), reason))
        return build

    return register


def between(function: Callable, *, wide: int = 8, reads: int | None = None, outer: int = 7) -> nn.Module:
    """Two linear layers with a function between them, and a third behind."""

    def forward(self, x, *others):
        return self.head(F.silu(self.b(function(self, self.a(x), *others))))

    return Net(forward, a=nn.Linear(outer, wide), b=nn.Linear(reads or wide, 10), head=nn.Linear(10, 3))


def pictures(function: Callable, *, wide: int = 8, reads: int | None = None) -> nn.Module:
    """Two convolutions with a function between them, and a head."""

    def forward(self, x):
        return self.head(self.b(function(self, self.a(x))))

    return Net(forward, a=conv(3, wide), b=conv(reads or wide, 10), head=Head(10))


# --- axes that an operation turns or works on -------------------------------------------------------------


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def turned_by_mT():
    return between(lambda self, x: torch.softmax(x.mT, -1).mT)


@net((8, 8, 7), mixed="a.weight[0] b.weight[1]")
def softmax_over_mT_of_a_cube():
    """All sizes are equal: the softmax is over the tokens' axis of 8, not over the batch's."""
    return between(lambda self, x: torch.softmax(x.mT, 1).mT)


@net((8, 8, 7), exact="a.weight[0] b.weight[1]")
def turned_by_adjoint_in_a_cube():
    return between(lambda self, x: torch.softmax(x.adjoint(), 2).mH)


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def reversed_by_T():
    return between(lambda self, x: x.permute(2, 1, 0).relu().permute(2, 1, 0))


@net(IMAGE, exact="a.weight[0] b.weight[1]")
def fourier_without_dim():
    return pictures(lambda self, x: torch.fft.ifft(torch.fft.fft(x)).real)


@net(IMAGE, exact="a.weight[0] b.weight[1]")
def fourier_of_pictures_without_dim():
    """As global filters do it."""
    return pictures(lambda self, x: torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:]))


@net(IMAGE, exact="a.weight[0] b.weight[1]")
def fourier_of_as_many_axes_as_sizes():
    return pictures(lambda self, x: torch.fft.irfftn(torch.fft.rfftn(x, (6, 6)), (6, 6)))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def imaginary_parts():
    return between(lambda self, x: torch.fft.fft(x, dim=1).imag)


@net(SEQUENCE, stays="a.weight[0]", reason="worked on as a whole")
def fourier_over_the_width():
    return between(lambda self, x: torch.fft.fft(x).real)


@net(IMAGE, exact="a.weight[0] b.weight[1]")
def differences_of_neighbours():
    return pictures(lambda self, x: x.diff().relu())


@net(IMAGE, exact="a.weight[0] b.weight[1]")
def differences_with_a_first_column():
    return pictures(lambda self, x: torch.diff(x, prepend=x[..., :1]))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def norm_over_tokens():
    return between(lambda self, x: x / torch.linalg.norm(x, dim=1, keepdim=True))


@net(SEQUENCE, mixed="a.weight[0] b.weight[1]")
def norm_over_the_width():
    return between(lambda self, x: x / torch.linalg.norm(x, dim=-1, keepdim=True))


@net(SEQUENCE, exact="a.weight[0] v[0]")
def product_with_a_vector():
    def forward(self, x):
        return self.head(self.a(x) @ self.v)

    return Net(forward, a=nn.Linear(7, 8), v=nn.Parameter(torch.randn(8)), head=nn.Linear(5, 3))


@net((8, 7), exact="a.weight[0] b.weight[1]")
def vector_with_a_product():
    def forward(self, x):
        return self.head(F.silu(self.b(self.v @ self.a(x))))

    return Net(
        forward, v=nn.Parameter(torch.randn(8)), a=nn.Linear(7, 8), b=nn.Linear(8, 10), head=nn.Linear(10, 3)
    )


@net(SEQUENCE, exact="a.weight[0] w[0] w[1] b.weight[1]")
def tensordot():
    """Over the width and over nothing else."""
    model = between(lambda self, x: torch.tensordot(x, self.w, ([2], [0])), reads=12)
    model.w = nn.Parameter(torch.randn(8, 12))
    return model


@net(SEQUENCE, exact="a.weight[0] w[0] w[1] b.weight[1]")
def tensordot_by_number():
    model = between(lambda self, x: torch.tensordot(x, self.w, 1), reads=12)
    model.w = nn.Parameter(torch.randn(8, 12))
    return model


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def stacks():
    return between(lambda self, x: torch.hstack([x, x * 2]) + torch.vstack([x, x])[:2].repeat(1, 2, 1))


@net((5, 7), exact="a.weight[0] c.weight[0] b.weight[1]")
def columns():
    def forward(self, x):
        return self.head(F.silu(self.b(torch.column_stack([self.a(x), self.c(x)]))))

    return Net(forward, a=nn.Linear(7, 8), c=nn.Linear(7, 6), b=nn.Linear(14, 10), head=nn.Linear(10, 3))


@net((2, 4, 5, 7), exact="a.weight[0] b.weight[1]")
def depths():
    return between(lambda self, x: torch.dstack([x, x.flip(2)]))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def empty_part():
    return between(lambda self, x: torch.cat(torch.split(x, [3, 0, 2], 1), 1))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def narrowed_to_nothing():
    return between(lambda self, x: torch.cat([x.narrow(1, 0, 0), x], 1))


@net(SEQUENCE, stays="a.weight[0]", reason="an empty slice is taken of it")
def narrowed_to_nothing_along_the_width():
    return between(lambda self, x: torch.cat([x.narrow(2, 0, 0), x], 2))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def view_of_an_empty_tensor():
    """As a cache that holds nothing yet."""

    def function(self, x):
        none = x[:, :0].reshape(2, 0, 2, x.shape[-1] // 2)
        return torch.cat([none.reshape(2, 0, x.shape[-1]), x], 1)

    return between(function)


@net((5, 7), exact="a.weight[0] c.weight[0] b.weight[1]")
def rows_written_by_index():
    """Written into, and added to."""

    def forward(self, x):
        h, rows = self.a(x), torch.tensor([0, 2])
        h = h.index_put((rows,), self.c(x[:2])).index_put_((rows + 1,), self.c(x[1:3]), accumulate=True)
        return self.head(F.silu(self.b(h)))

    return Net(forward, a=nn.Linear(7, 8), c=nn.Linear(7, 8), b=nn.Linear(8, 10), head=nn.Linear(10, 3))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def pieces_of_given_sizes():
    """The sizes of the pieces go under a name of their own."""
    return between(lambda self, x: torch.cat(torch.split_with_sizes(x, [x.shape[-1] // 2] * 2, -1), -1))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def as_many_copies_as_slots():
    """How many copies there are goes under a name of its own."""
    return between(lambda self, x: x + torch.tile(x.sum(-1, keepdim=True), dims=(1, 1, x.shape[-1])))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def windows_of_memory():
    """Overlapping chunks, as sparse attention makes them."""

    def function(self, x):
        x = x[:, :4].contiguous().view(2, 2, 2, x.shape[-1])
        size, stride = list(x.size()), list(x.stride())
        size[1], stride[1] = size[1] * 2 - 1, stride[1] // 2
        return x.as_strided(size=size, stride=stride).flatten(1, 2)

    return between(function)


@net((8, 2, 7), exact="a.weight[0] b.weight[1]")
def windows_of_turned_memory():
    """The chunks of Longformer: heads lie between the positions and what is inside of a head."""

    def function(self, x):
        steps, batch, wide = x.shape
        x = x.view(steps, batch, 2, wide // 2).transpose(0, 1).transpose(1, 2)
        x = x.reshape(batch * 2, steps, wide // 2).view(batch * 2, 4, 2, wide // 2)
        size, stride = list(x.size()), list(x.stride())
        size[1], stride[1] = size[1] * 2 - 1, stride[1] // 2
        x = x.as_strided(size=size, stride=stride).reshape(batch, 2, 14, wide // 2)
        return x.transpose(1, 2).reshape(batch, 14, wide)

    return between(function)


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def memory_as_it_is():
    return between(
        lambda self, x: x.as_strided(x.size(), x.stride()) + torch.as_strided(x, x.shape, x.stride())
    )


@net(SEQUENCE, stays="a.weight[0]", reason="fixes (stride: 40)")
def memory_by_numbers():
    """Strides that are written down are of a width that must stay."""
    return between(lambda self, x: x.as_strided(x.shape, (40, 8, 1)))


@net(SEQUENCE, stays="a.weight[0]", reason="memory")
def windows_over_the_width():
    return between(lambda self, x: x.as_strided((2, 5, 7), (40, 8, 1)), reads=7)


# --- positions ---------------------------------------------------------------------------------------------


def ranked(function: Callable) -> nn.Module:
    """A gate of one number for each position, found over the channels."""
    return pictures(lambda self, x: x * torch.sigmoid(function(x)))


@net(IMAGE, mixed="a.weight[0] b.weight[1]")
def largest_without_its_position():
    """The spatial attention of CBAM."""
    return ranked(lambda x: torch.max(x, 1, keepdim=True)[0])


@net(IMAGE, mixed="a.weight[0] b.weight[1]")
def smallest_without_its_position():
    return ranked(lambda x: x.min(dim=1, keepdim=True).values)


@net(IMAGE, mixed="a.weight[0] b.weight[1]")
def median_without_its_position():
    return ranked(lambda x: x.median(1, keepdim=True)[0])


@net(IMAGE, mixed="a.weight[0] b.weight[1]")
def kth_without_its_position():
    return ranked(lambda x: x.kthvalue(2, 1, keepdim=True)[0])


@net(IMAGE, mixed="a.weight[0] b.weight[1]")
def best_few_without_their_positions():
    return ranked(lambda x: x.topk(3, 1)[0].mean(1, keepdim=True))


@net(IMAGE, stays="a.weight[0] b.weight[1]", reason="its positions are results")
def largest_with_its_position():
    return ranked(lambda x: torch.max(x, 1, keepdim=True)[1].float())


@net(IMAGE, stays="a.weight[0] b.weight[1]", reason="its positions are results")
def largest_whose_position_is_read():
    """A position that decides what is done next."""

    def function(x):
        found = torch.max(x.flatten(1), 1)
        return found.values[:, None, None, None] * (1.0 if int(found.indices[0]) >= 0 else 2.0)

    return ranked(function)


# --- windows over channels ---------------------------------------------------------------------------------


def gated(function: Callable, **parts) -> nn.Module:
    """Channels with a gate made of their means."""

    def forward(self, x):
        x = self.a(x)
        return self.head(self.b(x * torch.sigmoid(function(self, x.mean((2, 3), keepdim=True)))))

    return Net(forward, a=conv(3, 8), b=conv(8, 10), head=Head(10), **parts)


@net(IMAGE, mixed="a.weight[0] b.weight[1]")
def convolution_over_channels():
    """Efficient channel attention: a channel's gate is made of those beside it."""
    return gated(
        lambda self, y: self.k(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1),
        k=nn.Conv1d(1, 1, 3, padding=1, bias=False),
    )


@net(IMAGE, mixed="a.weight[0] b.weight[1]")
def convolution_over_viewed_channels():
    def function(self, y):
        gate = self.k(y.view(y.shape[0], 1, -1))
        return gate.view(gate.shape[0], -1, 1, 1)

    return gated(function, k=nn.Conv1d(1, 1, 5, padding="same"))


@net(IMAGE, stays="a.weight[0]", reason="the window of a conv slides along it")
def convolution_over_channels_in_steps():
    def function(self, y):
        gate = self.k(y.view(y.shape[0], 1, -1))
        return gate.view(gate.shape[0], -1, 1, 1).repeat_interleave(2, 1)

    return gated(function, k=nn.Conv1d(1, 1, 3, stride=2, padding=1))


@net(IMAGE, mixed="a.weight[0] b.weight[1]")
def local_response_norm():
    """A channel is divided by those beside it."""
    return pictures(lambda self, x: F.local_response_norm(x, 3))


@net(IMAGE, exact="a.weight[0] b.weight[1]")
def pooled_and_unpooled():
    """As SegNet and ENet do it."""

    def function(self, x):
        y, where = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(y, where, 2)

    return pictures(function)


# --- lengths that data tells -------------------------------------------------------------------------------


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def padded_by_data():
    def function(self, x):
        mask = x.sum(-1) > -1e9
        return F.pad(x, (0, 0, 0, 8 - mask[0].sum()))

    return between(function)


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def repeated_as_often_as_data_says():
    """The length regulator of FastSpeech2."""

    def function(self, x):
        counts = (x.sum(-1) > -1e9)[0].long() + 1
        return torch.repeat_interleave(x, counts, dim=1)

    return between(function)


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def made_as_long_as_data_says():
    def function(self, x):
        counts = (x.sum(-1) > -1e9).sum(1)
        longer = torch.zeros(x.shape[0], counts.max() + 1, x.shape[2])
        longer[:, : counts.max()] = x
        return longer

    return between(function)


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def rolled_and_cut_by_data():
    def function(self, x):
        count = (x.sum(-1) > -1e9)[0].sum()
        x = torch.roll(x, 1, 1).narrow(1, count - count, 4)
        return x.expand(count - 3, -1, -1) + x.repeat(count // 4, 1, 1)

    return between(function)


@net(SEQUENCE, stays="a.weight[0]", reason="data says")
def padded_by_data_along_the_width():
    def function(self, x):
        return F.pad(x, (0, (x.sum() > -1e9).long()))

    return between(function, reads=9)


# --- sequences of several lengths --------------------------------------------------------------------------


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def padded_to_the_longest():
    return between(lambda self, x: pad_sequence([x[0], x[1, :3]], batch_first=True))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def repeated_and_padded_to_the_longest():
    """As a length regulator does it."""

    def forward(self, x):
        often = (x.sum(2) > -1e9).long() + 1
        return pad_sequence([one.repeat_interleave(n, 0) for one, n in zip(x, often)])

    return between(forward)


def packed(cell: type[nn.Module], **options) -> nn.Module:
    def forward(self, x):
        steps = pack_padded_sequence(self.a(x), torch.tensor([5, 3]), batch_first=True, enforce_sorted=False)
        y, _ = self.cell(steps)
        y, _ = pad_packed_sequence(y, batch_first=True)
        return self.head(F.silu(self.b(y)))

    wide = 12 * (2 if options.get("bidirectional") else 1)
    cell = cell(8, 12, batch_first=True, **options)
    return Net(forward, a=nn.Linear(7, 8), cell=cell, b=nn.Linear(wide, 10), head=nn.Linear(10, 3))


@net(SEQUENCE, exact="a.weight[0] cell.weight_ih_l0[1] cell.weight_hh_l0[1] b.weight[1]")
def packed_lstm():
    return packed(nn.LSTM)


@net(SEQUENCE, exact="a.weight[0] cell.weight_ih_l0[1] cell.weight_hh_l1_reverse[1] b.weight[1]")
def packed_gru_both_ways():
    return packed(nn.GRU, num_layers=2, bidirectional=True)


@net(SEQUENCE, exact="a.weight[0] cell.weight_ih_l0[1] cell.weight_hh_l0[1] b.weight[1]")
def packed_rnn():
    return packed(nn.RNN)


# --- operations that had no rule ---------------------------------------------------------------------------


@net((2, 5), exact="bag.weight[1] b.weight[1]")
def bag_of_words():
    def forward(self, x):
        return self.head(F.silu(self.b(self.bag((x.abs() * 9).long() % 11))))

    bag = nn.EmbeddingBag(11, 8, mode="sum")
    return Net(forward, bag=bag, b=nn.Linear(8, 10), head=nn.Linear(10, 3))


@net((2, 6, 7), exact="a.weight[0] b.weight[1]")
def triangular_system():
    """The chunks of a gated delta net."""

    def forward(self, x):
        scores = torch.tanh(x @ x.mT).tril(-1) + torch.eye(6)
        y = torch.linalg.solve_triangular(scores, self.a(x), upper=False, unitriangular=True)
        return self.head(F.silu(self.b(y)))

    return Net(forward, a=nn.Linear(7, 8), b=nn.Linear(8, 10), head=nn.Linear(10, 3))


@net(SEQUENCE, mixed="a.weight[0] c.weight[0]")
def commitment_loss():
    """A mean of squares over the width, as quantisers return it."""

    def forward(self, x):
        h = self.a(x)
        return self.head(F.silu(self.b(h))), F.mse_loss(h, self.c(x))

    return Net(forward, a=nn.Linear(7, 8), c=nn.Linear(7, 8), b=nn.Linear(8, 10), head=nn.Linear(10, 3))


@net(SEQUENCE, exact="a.weight[0] b.weight[0] b.weight[1]")
def loss_of_the_answer():
    """The answer's loss is an answer, too."""

    def forward(self, x):
        y = self.head(F.silu(self.b(self.a(x))))
        return y, F.cross_entropy(y.flatten(0, 1), (y.flatten(0, 1).sum(-1) > 0).long())

    return Net(forward, a=nn.Linear(7, 8), b=nn.Linear(8, 10), head=nn.Linear(10, 3))


@net(SEQUENCE, exact="a.weight[0] b.weight[1]")
def logit_of_a_probability():
    return between(lambda self, x: torch.special.logit(torch.special.expit(x), eps=1e-4))
