"""The gradient of class weights: either the true one or a clear error, in every function that takes them."""

import inspect

import pytest
import torch

import mmseg_cpg.ops
from tests.inputs import blobs, random_logits

NUM_CLASSES = 3
LABEL = blobs((1, 12, 14), NUM_CLASSES)
# The functions that compute the gradient, with their options.
DIFFERENTIABLE = [('cpg_loss', 'dense'), ('rmi_loss', None)]


def functions():
    """Name of the function, name of its argument, implementation."""
    for name in mmseg_cpg.ops.__all__:
        parameters = inspect.signature(getattr(mmseg_cpg.ops, name)).parameters
        implementations = [None]
        if 'implementation' in parameters:
            others = ['dense'] if name == 'cpg_loss' else ['separate']
            implementations = ['auto', 'sparse', 'triton', *others]
        for argument in parameters:
            if argument.endswith('class_weight'):
                yield from ((name, argument, implementation) for implementation in implementations)


@pytest.mark.parametrize(('name', 'argument', 'implementation'), functions())
def test_gradient_of_class_weights_is_the_true_one_or_refused(name, argument, implementation):
    options = {} if implementation is None else dict(implementation=implementation)

    def loss(class_weight):
        return getattr(mmseg_cpg.ops, name)(logits, LABEL, **{argument: class_weight}, **options)

    logits = random_logits(LABEL, NUM_CLASSES)
    class_weight = torch.tensor([0.5, 1.0, 2.0], requires_grad=True)
    if (name, implementation) not in DIFFERENTIABLE:
        with pytest.raises(ValueError, match=f'^{argument} must not require a gradient, which is not computed'):
            loss(class_weight)
        return
    # The losses are linear in the class weights.
    expected = torch.stack([loss(one_hot).detach() for one_hot in torch.eye(NUM_CLASSES)])
    assert expected.any()
    (gradient,) = torch.autograd.grad(loss(class_weight), class_weight)
    torch.testing.assert_close(gradient, expected)


def test_class_weights_that_require_a_gradient_are_fine_where_none_is_computed():
    class_weight = torch.tensor([0.5, 1.0, 2.0], requires_grad=True)
    logits = random_logits(LABEL, NUM_CLASSES)
    with torch.no_grad():
        loss = mmseg_cpg.ops.cpg_loss(logits, LABEL, class_weight=class_weight)
    assert torch.equal(loss, mmseg_cpg.ops.cpg_loss(logits, LABEL, class_weight=class_weight.detach()).detach())
