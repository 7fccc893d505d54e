"""The report: one page that needs nothing but itself, and answers as Python does. Seen in a real browser."""

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import product

import pytest
import torch
import torchvision
from prunus import engine, report
from prunus.cli import main
from prunus.report.data import data_of
from prunus.report.flow import flow
from torch import nn

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Block(nn.Module):
    """A residual convolution with a norm, in a network with a stem and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.back = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.back(self.norm(self.inner(x)).relu())
        return self.head(x.mean((2, 3)))


@torch.library.custom_op("prunus_report::twist", mutates_args=())
def twist(x: torch.Tensor) -> torch.Tensor:
    """An operation that no shipped rule can know."""
    return x * 2


class Hostile(nn.Module):
    """Names and source lines that would end the page's script, and an operation without a rule."""

    def __init__(self):
        super().__init__()
        self.add_module("a</script><b>&amp;'\"", nn.Linear(4, 8))
        self.add_module("<!--<script>", nn.Linear(8, 6))
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        for layer in list(self.children())[:2]:
            x = layer(x).relu()  # </script><script>document.title = "broken"</script> <!-- {{data}}
        return self.last(twist(x) * 1)


def graph_of(model, *shape):
    return engine.analyze(model.eval(), torch.randn(*shape))


# -- the page as text --


class Addresses(HTMLParser):
    """Every address that a page's elements name."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_the_page_names_no_address():
    """Nothing is loaded: the only address is the empty icon."""
    text = report.page(graph_of(Block(), 1, 3, 8, 8))
    assert Addresses(text).found == ["data:,"]
    assert "sourceMappingURL" not in text


def test_the_libraries_come_with_their_licences():
    """The page passes on d3 and dagre, and what their authors ask for."""
    text = report.page(graph_of(Block(), 1, 3, 8, 8))
    assert "Mike Bostock" in text and "Chris Pettitt" in text


def test_the_data_of_a_page_cannot_end_its_script():
    """Whatever a module is called and a source line says."""
    text = report.page(graph_of(Hostile(), 3, 4), title="</title><script>alert(1)</script>")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert "a</script><b>&amp;'\".weight" in [tensor[0] for tensor in json.loads(data)["tensors"]]
    assert "<script>alert" not in text and "<" not in data


def test_the_page_of_resnet50_is_small():
    """Below 3 MB, libraries included."""
    graph = graph_of(torchvision.models.resnet50(), 1, 3, 64, 64)
    assert len(report.page(graph, graph.choose(0.5)).encode()) < 3_000_000


def test_a_plan_shows_what_will_be_left():
    """Parameters and slots before and after; without a plan there is no after."""
    model = Block()
    graph = graph_of(model, 1, 3, 8, 8)
    plan = graph.choose(0.5)
    data = data_of(graph, plan)
    before, after = data["summary"]["costs"]["parameters"]
    assert before == sum(parameter.numel() for parameter in model.parameters())
    engine.apply(model, plan)
    assert after == sum(parameter.numel() for parameter in model.parameters())
    assert {group["name"]: group["after"] for group in data["groups"]}["inner.out"] == 3
    assert data_of(graph, None)["summary"]["costs"]["MACs"][1] is None


def test_layers_are_joined_by_what_flows():
    """Operations that only pass on are left out; the addition joins the stem's output with the block's."""
    picture = flow(graph_of(Block(), 1, 3, 8, 8))
    (add,) = [name for name, node in picture.nodes.items() if node.kind == "join"]
    assert {(start, end) for start, end in picture.edges} == {
        ("input 0", "stem"),
        ("stem", "inner"),
        ("inner", "norm"),
        ("norm", "back"),
        ("stem", add),
        ("back", add),
        (add, "head"),
        ("head", "output 0"),
    }
    assert [group.name for group in picture.edges["norm", "back"]] == ["inner.out"]


def test_a_shared_parameter_is_drawn_at_each_of_its_layers():
    """The output layer reads what the norm made, though its weight is the table's."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
            self.head = nn.Linear(8, 11, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            return self.head(self.norm(self.table(tokens)))

    picture = flow(engine.analyze(Tied(), torch.randint(0, 11, (2, 5))))
    assert ("norm", "head") in picture.edges and ("head", "output 0") in picture.edges


def test_what_an_unknown_operation_makes_flows_on():
    """A layer whose operation has no rule is held, but it is not the end of the picture."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            x = self.stem(x)
            return self.head(x + twist(self.inner(x)))

    picture = flow(graph_of(Residual(), 3, 4))
    (add,) = [name for name, node in picture.nodes.items() if node.kind == "join"]
    assert ("inner", add) in picture.edges and ("stem", add) in picture.edges


def test_each_operation_without_a_rule_has_one_stub():
    """The second call of the operation is listed, and its stub is not looked for again."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.inner, self.head = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, x):
            x = twist(self.stem(x))
            return self.head(twist(self.inner(x)))

    first, second = data_of(graph_of(Twice(), 3, 4), None)["unknown"]
    assert "twist: x[" in first["stub"] and second["stub"] is None
    assert first["reason"] == second["reason"] and first["source"] != second["source"]


def test_the_command_writes_the_page(tmp_path, capsys):
    """``prunus report MODEL -o FILE``, with the options of ``prune``."""
    path = tmp_path / "page.html"
    assert (
        main(["report", "torchvision:resnet18", "--input", "1x3x64x64", "--ratio", "0.25", "-o", str(path)])
        == 0
    )
    assert "torchvision:resnet18" in path.read_text() and str(path) in capsys.readouterr().out


def test_a_page_that_cannot_be_written_is_one_message(tmp_path, capsys):
    """Exit status 2 and the path."""
    path = tmp_path / "absent" / "page.html"
    assert main(["report", "torchvision:resnet18", "--input", "1x3x64x64", "-o", str(path)]) == 2
    said = f"cannot write {path}: there is no folder {path.parent}; make it first"
    assert capsys.readouterr().err == f"error: {said}\n"


# -- the page in a browser --


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, driven by playwright."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """The graph of resnet18, and its page's file."""
    graph = graph_of(torchvision.models.resnet18(), 1, 3, 64, 64)
    path = tmp_path_factory.mktemp("report") / "resnet18.html"
    report.write(graph, path, graph.choose(0.5), title="resnet18")
    return graph, path


@pytest.fixture
def show(browser):
    """Opens a file. In the end nothing must have gone wrong in it, and nothing else been asked for."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    errors, requests, opened = [], [], []

    def open_file(path, **media):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.emulate_media(**media)
        opened.append(f"file://{path}")
        page.goto(opened[-1])
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_file
    context.close()
    assert errors == []
    assert requests == opened


@pytest.fixture
def page(show, resnet):
    """The open page of resnet18."""
    return show(resnet[1])


def text_of(page, selector):
    return page.locator(selector).inner_text()


def test_the_whole_graph_is_visible_at_the_start(page):
    """Every layer lies inside the panel."""
    panel = page.locator("#graph").bounding_box()
    for node in page.locator("#graph .node").all():
        box = node.bounding_box()
        assert panel["x"] <= box["x"] and box["x"] + box["width"] <= panel["x"] + panel["width"]
        assert panel["y"] <= box["y"] and box["y"] + box["height"] <= panel["y"] + panel["height"]


def test_no_two_layers_overlap(page):
    """Each name can be read."""
    boxes = [node.bounding_box() for node in page.locator("#graph .node rect").all()]
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            beside = one["x"] >= other["x"] + other["width"] or other["x"] >= one["x"] + one["width"]
            assert (
                beside or one["y"] >= other["y"] + other["height"] or other["y"] >= one["y"] + one["height"]
            )


def test_nothing_moves_while_the_page_opens(page):
    """No layout shift."""
    shift = page.evaluate(
        """new Promise((done) => {
            const total = (list) => list.getEntries().reduce((sum, one) => sum + one.value, 0);
            const watch = new PerformanceObserver((list) => done(total(list)));
            watch.observe({type: "layout-shift", buffered: true});
            setTimeout(() => done(0), 200);
        })"""
    )
    assert shift == 0


PAIRS = [
    ("layer1.0.conv2", "layer1.1.conv2"),
    ("conv1", "layer1.1.bn2"),
    ("layer2.0.conv2.weight[0]", "layer3.0.downsample.0.weight[1]"),
    ("layer4.1.conv1.weight", "layer4.1.bn1.bias"),
    ("bn1.running_mean", "conv1"),
    ("layer4.1.conv2", "fc"),
    ("layer1.0.conv1", "layer2.1.bn2.weight"),
    ("layer3.0", "layer3.1"),
    ("layer1.0.conv1", None),
    ("layer3.0.bn1", None),
    ("fc", None),
    ("conv1.weight[2]", None),
]


SHOWN = ("kind", "headline", "start", "end", "path", "remarks")


def answers_of(browser, path, pairs):
    """What the page of a file answers for each pair of names."""
    page = browser.new_page()
    page.goto(f"file://{path}")
    page.wait_for_selector("html[data-ready]")
    found = page.evaluate("(pairs) => pairs.map(([a, b]) => why(book, a, b ?? ''))", pairs)
    page.close()
    return [{key: answer[key] for key in SHOWN} for answer in found]


def answer_of(graph, a, b):
    """What Python answers, as the page would have it."""
    found = graph.why(a, b).to_dict()
    return json.loads(json.dumps({key: found[key] for key in SHOWN}))


@pytest.fixture(scope="module")
def answers(browser, resnet):
    """The answers of resnet18's page."""
    return dict(zip(PAIRS, answers_of(browser, resnet[1], PAIRS), strict=True))


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_the_page_answers_as_python_does(answers, resnet, a, b):
    """The same headline, the same path hop by hop, the same remarks."""
    assert answers[a, b] == answer_of(resnet[0], a, b)


class Tied(nn.Module):
    """Heads whose number and size are computed from a width, halves that are joined, and a norm."""

    def __init__(self):
        super().__init__()
        self.heads = 4
        self.enter = nn.Linear(5, 24)
        self.query = nn.Linear(24, 24)
        self.norm = nn.LayerNorm(24)
        self.back = nn.Linear(48, 3)

    def forward(self, x):
        x = self.enter(x)
        y = self.query(x).view(x.shape[0], self.heads, x.shape[-1] // self.heads)
        return self.back(torch.cat([self.norm(x), y.softmax(-1).flatten(1)], -1))


class Between(nn.Module):
    """Nobody knows what the operation between two layers joins."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.after(twist(self.before(x)))


@pytest.mark.parametrize(("model", "shape"), [(Block(), (1, 3, 8, 8)), (Tied(), (2, 5)), (Between(), (2, 3))])
def test_the_page_agrees_on_every_pair(browser, tmp_path, model, shape):
    """All layers and all axes of a small network: coupled, tied, apart or unknown."""
    graph = graph_of(model, *shape)
    report.write(graph, tmp_path / "page.html")
    layers = [name for name, module in model.named_modules() if name]
    axes = [str(member) for group in [*graph.groups, *graph.blocked] for member in group.members]
    pairs = [*product(layers, [*layers, None]), *product(axes, axes)]
    for pair, answer in zip(pairs, answers_of(browser, tmp_path / "page.html", pairs), strict=True):
        assert answer == answer_of(graph, *pair)


def test_typed_names_are_answered_in_full(page, resnet):
    """All that ``str(graph.why(a, b))`` says of the path stands on the page."""
    page.fill("#a", "layer1.0.conv2")
    page.fill("#b", "layer1.1.conv2")
    page.press("#b", "Enter")
    explanation = resnet[0].why("layer1.0.conv2", "layer1.1.conv2")
    assert text_of(page, "#answer h2") == explanation.headline
    rows = page.locator("#answer .hop").all()
    assert len(rows) == len(explanation.path)
    for row, hop in zip(rows, explanation.path, strict=True):
        line = row.inner_text()
        assert all(part in line for part in (hop.operation, hop.factor, hop.rule, hop.rule_at, hop.text))
        assert hop.source in row.get_attribute("title")
    answer = text_of(page, "#answer")
    assert all(remark.strip() in answer for remark in explanation.remarks)


def test_a_name_that_the_model_does_not_have(page):
    """Is said, and marked where it was typed."""
    page.fill("#a", "layer1.0.conv9")
    page.press("#a", "Enter")
    assert "layer1.0.conv9" in text_of(page, "#answer")
    assert page.get_attribute("#a", "aria-invalid") == "true"


def test_a_click_on_a_group_lights_its_layers(page, resnet):
    """From the table to the graph."""
    page.click("#panels tr:has-text('layer2.0.conv2.out')")
    lit = {node.get_attribute("data-layer") for node in page.locator("#graph .node.layer.lit").all()}
    assert lit == set(resnet[0].group("layer2.0.conv2.out").layers)
    assert "layer2.0.conv2.out" in text_of(page, "#answer h2")


def test_a_click_on_a_line_chooses_its_group(page):
    """From the graph to the table."""
    page.locator("#graph .edge .touch").nth(5).dispatch_event("click")
    (row,) = page.locator("#panels tr[aria-selected=true]").all()
    assert row.locator("td").first.inner_text() in text_of(page, "#answer h2")


def test_two_layers_that_are_clicked_are_asked_about(page, resnet):
    """The first alone, then both; their group is chosen in the table."""
    page.click("[data-layer='layer1.0.conv2']")
    assert text_of(page, "#answer h2") == "layer1.0.conv2 can be pruned"
    page.click("[data-layer='layer1.1.conv2']")
    assert text_of(page, "#answer h2") == resnet[0].why("layer1.0.conv2", "layer1.1.conv2").headline
    assert page.locator("#panels tr[aria-selected=true] td").first.inner_text() == "conv1.out"
    page.click("#ask button[type=reset]")
    assert page.locator("#graph .lit").count() == 0


def test_everything_can_be_reached_by_keyboard(page):
    """A row with Enter, the next one with the arrow, a layer with Enter, nothing with Escape."""
    page.locator("#panels tbody tr").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert "layer1.0.conv1.out" in text_of(page, "#answer h2")
    page.locator("[data-layer='fc']").focus()
    page.keyboard.press("Enter")
    assert text_of(page, "#answer h2").startswith("fc ")
    page.keyboard.press("Escape")
    assert page.input_value("#a") == ""
    tabs = page.evaluate(
        "[...document.querySelectorAll('#panels tbody tr, .node.layer')].map((one) => one.tabIndex)"
    )
    assert set(tabs) == {0}


def test_the_table_searches_and_sorts(page):
    """All words must be there; numbers sort as numbers."""
    page.fill("#search", "128 layer2.1.conv1.out")
    assert text_of(page, "#count").startswith("1 of")
    page.fill("#search", "layer3.1.bn2")
    assert text_of(page, "#panel-0 tbody").startswith("layer3.0.conv2.out")
    page.fill("#search", "")
    page.click("th button:has-text('slots')")
    page.click("th button:has-text('slots')")
    slots = [
        int(text.split()[0].replace(",", ""))
        for text in page.locator("#panel-0 td.number").all_inner_texts()
        if text
    ]
    assert slots == sorted(slots, reverse=True) and slots[0] == 1000


def test_the_blocked_axes_have_their_reasons(page):
    """In a list of their own."""
    page.click("#tab-1")
    text = text_of(page, "#panel-1")
    assert "axis 1 of the model's output" in text and "fc.weight[0]" in text


def test_hostile_names_are_only_text(show, tmp_path):
    """Markup in names, titles and source lines is shown and does nothing; the stub can be copied."""
    path = tmp_path / "hostile.html"
    title = "</title><b>{{data}}"
    graph = graph_of(Hostile(), 3, 4)
    report.write(graph, path, title=title)
    page = show(path)
    assert page.title().startswith(title) and title in text_of(page, "h1")
    first = "a</script><b>&amp;'\""
    page.evaluate("(name) => ask(name, '<!--<script>')", first)
    assert text_of(page, "#answer h2") == graph.why(first, "<!--<script>").headline
    assert "</script><script>document.title" in text_of(page, "#answer")
    assert page.locator("#answer b, #answer script, #panels b, #graph b").count() == 0
    page.click("#tab-2")
    assert "no rule for torch.ops.prunus_report.twist" in text_of(page, "#panel-2")
    page.click("#panel-2 button:has-text('Copy')")
    page.locator("#panel-2 button", has_text=re.compile("Copied|Selected")).wait_for()


def test_light_and_dark(show, resnet):
    """The page follows the reader's colours: dark text on light, light text on dark."""

    def brightness(page, of):
        colour = page.evaluate(f"getComputedStyle(document.body).{of}")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    light, dark = (show(resnet[1], color_scheme=scheme) for scheme in ("light", "dark"))
    assert brightness(light, "color") < 150 < 600 < brightness(light, "backgroundColor")
    assert brightness(dark, "backgroundColor") < 150 < 600 < brightness(dark, "color")


class Constant(nn.Module):
    """Its output does not depend on its input."""

    def forward(self, x):
        return torch.ones(3)


@pytest.mark.parametrize("model", [nn.Sequential(nn.ReLU(), nn.Flatten()), Constant()])
def test_a_model_with_nothing_to_prune_has_a_page(show, tmp_path, model):
    """Empty lists, and nothing that goes wrong."""
    path = tmp_path / "empty.html"
    report.write(graph_of(model, 2, 3, 4), path)
    assert "0 of 0" in text_of(show(path), "#count")


class Repeated(nn.Module):
    """One layer that is called twice, and a weight that is normalised."""

    def __init__(self):
        super().__init__()
        self.enter = nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))
        self.again = nn.Linear(6, 6)
        self.leave = nn.Linear(6, 2)

    def forward(self, x):
        return self.leave(self.again(self.again(self.enter(x)).relu()))


def test_a_layer_that_is_called_twice_is_one_node(show, tmp_path):
    """Cycles are drawn too; a parametrization belongs to its layer."""
    path = tmp_path / "twice.html"
    report.write(graph_of(Repeated(), 2, 4), path)
    layers = [node.get_attribute("data-layer") for node in show(path).locator("#graph .node.layer").all()]
    assert sorted(layers) == ["again", "enter", "leave"]
