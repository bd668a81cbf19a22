import pytest
import torch
from stand_ins import write_mnist

from ebm_lab.data import Digits, TorchvisionImages
from ebm_lab.errors import UserError
from ebm_lab.evaluation import classifier as module
from ebm_lab.evaluation.classifier import Classifier, accuracy, classifier_of, train_classifier


@pytest.fixture
def digits():
    data = Digits(order_seed=0)
    data.setup()
    return data


def test_it_learns_digits_and_says_how_well(digits):
    trained = train_classifier(digits.pixels(digits.train_x), digits.train_labels, 10, iterations=300)
    found = accuracy(trained, digits)
    right = trained.classes(digits.test_x) == digits.test_labels
    assert found.value == pytest.approx(float(right.double().mean()))
    assert found.value > 0.95  # chance is .1; 12 training epochs reach .98
    assert "on 300 test events" in found.note


def test_the_same_data_give_the_same_weights_whatever_the_global_state(digits):
    x, labels = digits.train_x, digits.train_labels
    first = train_classifier(x, labels, 10, iterations=3).state_dict()
    torch.manual_seed(77)
    state = torch.random.get_rng_state()
    second = train_classifier(x, labels, 10, iterations=3).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_features_are_what_the_last_layer_reads_of_pixels_clamped():
    network = Classifier((3, 9, 10), 4)
    x = torch.linspace(-3, 3, 5 * 270).reshape(5, 3, 9, 10)
    logits = network.head(network.features(x).float())
    torch.testing.assert_close(logits, network(x))
    assert torch.equal(network.classes(x), logits.argmax(1))
    torch.testing.assert_close(network(x), network(x.clamp(-1, 1)))


def of_mnist(root, transform=None):
    data = TorchvisionImages(
        name="mnist", shape=[1, 28, 28], order_seed=0, root=str(root), num_val=10, batch_size=10,
        transform=transform,
    )  # fmt: skip
    data.setup()
    return data


def test_it_is_trained_once_and_read_after(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    monkeypatch.setattr(module, "train_classifier", lambda *a: train_classifier(*a, iterations=2))
    trained = classifier_of(of_mnist(tmp_path), "mnist", tmp_path)
    (file,) = (tmp_path / "classifiers").iterdir()
    assert file.name.startswith("mnist-") and file.suffix == ".pt"
    monkeypatch.setattr(module, "train_classifier", lambda *a: pytest.fail("trained again"))
    again = classifier_of(of_mnist(tmp_path), "mnist", tmp_path)
    x = of_mnist(tmp_path).test_x
    assert torch.equal(trained(x), again(x))

    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(UserError, match="is cut short or damaged .* delete it, and it is trained again"):
        classifier_of(of_mnist(tmp_path), "mnist", tmp_path)
    # other training data have a file of their own
    other = of_mnist(tmp_path)
    other.train_labels = other.train_labels.flip(0)
    monkeypatch.setattr(module, "train_classifier", lambda *a: train_classifier(*a, iterations=2))
    classifier_of(other, "mnist", tmp_path)
    assert len(list((tmp_path / "classifiers").iterdir())) == 2


def test_transformed_data_are_classified_by_their_pixels(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    seen = []
    monkeypatch.setattr(
        module, "train_classifier", lambda x, *a: seen.append(x) or train_classifier(x, *a, iterations=1)
    )
    data = of_mnist(tmp_path, "logit")
    classifier_of(data, "mnist", tmp_path)
    assert float(data.train_x.abs().max()) > 5
    torch.testing.assert_close(seen[0], of_mnist(tmp_path).train_x, atol=1e-4, rtol=0)
