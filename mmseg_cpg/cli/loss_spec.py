"""Losses as they are named on a command line, e.g. ``base+CPGLoss:1.5,ksize=7``."""

import ast
import inspect
import math
from difflib import get_close_matches
from typing import NamedTuple

from mmseg.registry import MODELS

from ..config_nodes import final_head, losses_of
from .errors import UserError

BASE = 'base'  # the losses of the config itself
SYNTAX = f"expected NAME[:WEIGHT][,OPTION=VALUE...], '{BASE}', or a dict as in a config, joined by +"


class LossChoice(NamedTuple):
    """What the final head is trained with.

    Args:
        name (str): The losses as on a command line, spelled in one way.
        parts (tuple): ``BASE``, or the config of a loss.
    """

    name: str
    parts: tuple

    def title(self, own):
        """The losses in a table or plot, where the config's own are named ``own``, e.g. 'CE + CPGLoss:1.5'."""
        return ' + '.join(own if part == BASE else _spell(part) for part in self.parts)

    def loss_decode(self, own):
        """The losses for a head whose own are ``own`` (list)."""
        return [loss for part in self.parts for loss in (own if part == BASE else [dict(part)])]


def parse_losses(text):
    """Read the losses of one training.

    Args:
        text (str): ``base``, ``NAME``, ``NAME:WEIGHT`` or ``NAME:WEIGHT,OPTION=VALUE,...``, or a dict as in a config;
            several of them joined by ``+``. Values are Python's, text needs no quotation marks.

    Returns:
        LossChoice: The losses.

    Raises:
        UserError: If the text cannot be read.
    """
    parts = tuple(_parse_part(part.strip(), text) for part in _split(text, '+'))
    return LossChoice('+'.join(map(_spell, parts)), parts)


def check_losses(choice):
    """Build the losses, of which a typing error would else show up in the training alone.

    Args:
        choice (LossChoice): The losses.

    Returns:
        list[str]: Their names in the log, without the config's own.

    Raises:
        UserError: If one is not registered, does not take its options, or is no loss of a decode head.
    """
    return [_build(part).loss_name for part in choice.parts if part != BASE]


def choose_losses(cfg, choice):
    """Replace the losses of the final head in a config."""
    head = final_head(cfg.model)
    head.loss_decode = choice.loss_decode(losses_of(head))


def _parse_part(part, text):
    if part == BASE:
        return BASE
    if part.startswith(('{', 'dict(')):
        loss = _literal(part)
        if not isinstance(loss, dict) or not isinstance(loss.get('type'), str):
            raise UserError(f"--losses '{text}': {part} is no dict of plain values with a 'type'.")
        return loss
    head, *options = _split(part, ',')
    name, colon, weight = head.partition(':')
    if name == BASE:
        raise UserError(f"--losses '{text}': '{BASE}' are the losses of the config as they are, and takes no options.")
    loss = dict(type=name)
    if colon:
        loss['loss_weight'] = _weight(weight, text)
    for option in options:
        key, equals, value = option.partition('=')
        if not equals or not key.isidentifier() or key in loss:
            raise UserError(f"--losses '{text}': cannot read '{option}', {SYNTAX}.")
        loss[key] = _value(value)
    if not all(word.isidentifier() for word in name.split('.')):
        raise UserError(f"--losses '{text}': '{name}' is no name of a loss, {SYNTAX}.")
    return loss


def _split(text, separator):
    """Split a text where the separator stands outside of brackets and quotation marks."""
    parts, depth, quote = [''], 0, ''
    for char in text:
        if quote:
            quote = '' if char == quote else quote
        elif char in '\'"':
            quote = char
        else:
            depth += (char in '([{') - (char in ')]}')
        if char == separator and not depth and not quote:
            parts.append('')
        else:
            parts[-1] += char
    return parts


def _weight(weight, text):
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"--losses '{text}': '{weight}' is no weight, expected a finite number.")
    return value


class _DictCalls(ast.NodeTransformer):
    """Turns ``dict(key=value)``, as configs are written, into ``{'key': value}``."""

    def visit_Call(self, node):
        self.generic_visit(node)
        is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args
        if not is_dict or any(keyword.arg is None for keyword in node.keywords):
            return node
        return ast.Dict([ast.Constant(each.arg) for each in node.keywords], [each.value for each in node.keywords])


def _literal(text):
    """The value of a Python literal, None if it is none."""
    try:
        return ast.literal_eval(_DictCalls().visit(ast.parse(text.strip(), mode='eval')))
    except (SyntaxError, ValueError):
        return None


def _value(text):
    """The value of an option: as DictAction of MMEngine reads them, true and false may be in small letters."""
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    value = _literal(text)
    return text if value is None and text != 'None' else value


def _spell(part):
    """Write a part as on the command line."""
    if part == BASE:
        return BASE
    options = dict(part)
    name = options.pop('type')
    if isinstance(options.get('loss_weight'), (int, float)):
        name += f':{options.pop("loss_weight"):g}'
    return ','.join([name, *(f'{key}={str(value).replace(" ", "")}' for key, value in options.items())])


def _build(loss):
    name = loss['type']
    try:
        kind = MODELS.get(name)
    except RuntimeError:  # a dotted name that cannot be imported
        kind = None
    if kind is None:
        raise UserError(f"--losses: '{name}' is not in the MODELS registry. {_suggest(name)}")
    try:
        module = MODELS.build(dict(loss))
    except Exception as error:  # what a class raises depends on the class
        reason = str(error).strip().splitlines() or [type(error).__name__]
        options = [*inspect.signature(kind).parameters]
        hint = '' if {*loss} <= {'type', *options} else f' Its options are {", ".join(options)}.'
        raise UserError(f"--losses '{_spell(loss)}': {name} cannot be built: {reason[0]}.{hint}") from error
    if not isinstance(getattr(module, 'loss_name', None), str):
        raise UserError(f"--losses: '{name}' is no loss for a decode head's loss_decode: it has no loss_name.")
    if 'loss' not in module.loss_name:
        raise UserError(
            f"--losses '{_spell(loss)}': loss_name must contain 'loss', or MMSegmentation logs the loss without "
            f"training with it, got '{module.loss_name}'."
        )
    return module


def _suggest(name):
    losses = sorted(key for key, kind in MODELS.module_dict.items() if hasattr(kind, 'loss_name'))
    stems = {_stem(loss): loss for loss in losses}
    close = get_close_matches(_stem(name.rpartition('.')[2]), stems, cutoff=0.55)
    if close:
        return f'Did you mean {" or ".join(stems[match] for match in close)}?'
    return f'The losses there are {", ".join(losses)}; custom_imports of the config can add others.'


def _stem(name):
    return name.lower().removesuffix('loss')
