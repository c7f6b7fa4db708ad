"""Losses as they are named on a command line, e.g. ``base+CPGLoss:1.5,ksize=7``."""

from __future__ import annotations

import inspect
import math
import re
from difflib import get_close_matches
from typing import Any, NamedTuple

from mmengine.config import Config, DictAction
from mmseg.registry import MODELS
from torch import nn

from ..config_nodes import final_head, losses_of
from .errors import UserError, describe

BASE = 'base'  # the losses of the config itself
SYNTAX = f"expected NAME[:WEIGHT][,OPTION=VALUE...] or '{BASE}', joined by +"
# A name follows the + between losses, and NAME= the comma between options; not so within numbers and lists.
PLUS = re.compile(r'\s*\+\s*(?=[A-Za-z_])')
COMMA = re.compile(r'\s*,\s*(?=[A-Za-z_]\w*=)')
NAME = re.compile(r'[A-Za-z_][\w.]*')


class LossChoice(NamedTuple):
    """What the final head is trained with.

    Args:
        name: The losses as on a command line, in normal form.
        parts: ``BASE``, or the config of a loss.
    """

    name: str
    parts: tuple[str | dict[str, Any], ...]

    def title(self, own: str) -> str:
        """The losses in a table or plot, where the config's own are named ``own``, e.g. 'CE + CPGLoss:1.5'."""
        return ' + '.join(own if isinstance(part, str) else _spell(part) for part in self.parts)

    def loss_decode(self, own: list[dict]) -> list[dict]:
        """The losses for a head whose own are ``own``."""
        return [loss for part in self.parts for loss in (own if isinstance(part, str) else [dict(part)])]


def parse_losses(text: str) -> LossChoice:
    """Read the losses of one training run.

    Args:
        text: ``base``, ``NAME``, ``NAME:WEIGHT`` or ``NAME:WEIGHT,OPTION=VALUE,...``; several of them joined by ``+``.
            Values are read as those of ``--cfg-options``: numbers, True, None, text, and lists of them.

    Raises:
        UserError: The text cannot be read.
    """
    parts = tuple(_parse_part(part.strip(), text) for part in PLUS.split(text))
    return LossChoice('+'.join(part if isinstance(part, str) else _spell(part) for part in parts), parts)


def check_losses(choice: LossChoice) -> list[str]:
    """Build the losses, so that a typo is found before a training starts.

    Returns:
        Their names in the log, without the config's own.

    Raises:
        UserError: One is not registered, does not accept its options, or is not usable in ``loss_decode``.
    """
    return [str(_build(part).loss_name) for part in choice.parts if not isinstance(part, str)]


def choose_losses(cfg: Config, choice: LossChoice) -> None:
    """Replace the losses of the final head in a config."""
    head = final_head(cfg.model)
    head.loss_decode = choice.loss_decode(losses_of(head))


def _parse_part(part: str, text: str) -> str | dict[str, Any]:
    if part == BASE:
        return BASE
    head, *options = COMMA.split(part)
    name, colon, weight = head.partition(':')
    if name == BASE:
        raise UserError(f"--losses '{text}': '{BASE}' stands for the losses of the config and takes no options.")
    if not NAME.fullmatch(name):
        raise UserError(f"--losses '{text}': '{name}' is not a valid loss name, {SYNTAX}.")
    loss: dict[str, Any] = dict(type=name)
    if colon:
        loss['loss_weight'] = _weight(weight, text)
    for option in options:
        key, _, value = option.partition('=')
        if key in loss:
            raise UserError(f"--losses '{text}': {key} is given twice.")
        try:
            loss[key] = DictAction._parse_iterable(value)
        except AssertionError as error:  # unbalanced brackets
            raise UserError(f"--losses '{text}': cannot read '{option}', {SYNTAX}.") from error
    return loss


def _weight(weight: str, text: str) -> float:
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"--losses '{text}': invalid weight '{weight}', expected a finite number.")
    return value


def _spell(loss: dict[str, Any]) -> str:
    """Write a loss as on the command line."""
    options = dict(loss)
    name = options.pop('type')
    if 'loss_weight' in options:
        weight = options.pop('loss_weight')
        short = f'{weight:g}'
        name += f':{short if float(short) == weight else weight}'
    return ','.join([name, *(f'{key}={_spell_value(value)}' for key, value in options.items())])


def _spell_value(value: Any) -> str:
    if isinstance(value, list):
        return f'[{",".join(map(_spell_value, value))}]'
    if isinstance(value, tuple):
        return f'({",".join(map(_spell_value, value))})'
    return str(value)


def _build(loss: dict[str, Any]) -> nn.Module:
    name = loss['type']
    try:
        kind = MODELS.get(name)
    except RuntimeError:  # a dotted name that cannot be imported
        kind = None
    if kind is None:
        raise UserError(f"--losses: '{name}' is not in the MODELS registry. {_suggest(name)}")
    try:
        module = MODELS.build(dict(loss))
    except Exception as error:  # which one depends on the class
        options = [*inspect.signature(kind).parameters]
        hint = '' if {*loss} <= {'type', *options} else f' Its options are {", ".join(options)}.'
        raise UserError(f"--losses '{_spell(loss)}': {name} cannot be built: {describe(error)}.{hint}") from error
    if not isinstance(getattr(module, 'loss_name', None), str):
        raise UserError(f"--losses: '{name}' is not usable in loss_decode: it has no loss_name.")
    if 'loss' not in module.loss_name:
        raise UserError(
            f"--losses '{_spell(loss)}': loss_name must contain 'loss', or MMSegmentation logs the loss without "
            f"training with it, got '{module.loss_name}'."
        )
    return module


def _suggest(name: str) -> str:
    losses = sorted(key for key, kind in MODELS.module_dict.items() if hasattr(kind, 'loss_name'))
    stems = {_stem(loss): loss for loss in losses}
    close = get_close_matches(_stem(name.rpartition('.')[2]), stems, cutoff=0.55)
    if close:
        return f'Did you mean {" or ".join(stems[match] for match in close)}?'
    return f'Available losses: {", ".join(losses)}. custom_imports in the config can add others.'


def _stem(name: str) -> str:
    return name.lower().removesuffix('loss')
