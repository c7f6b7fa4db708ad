"""Pickles that no training writes, assembled from opcodes: each tries to get more than numbers out of the unpickler."""

import io
import struct
import zipfile

import torch

PROTO, STOP, REDUCE, BUILD, NEWOBJ, NONE, TRUE, FALSE, EMPTY_DICT, EMPTY_LIST = (
    b'\x80\x02', b'.', b'R', b'b', b'\x81', b'N', b'\x88', b'\x89', b'}', b']'
)  # fmt: skip
HISTORY = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
GETATTR = b'c__builtin__\ngetattr\n'
NDARRAY = b'cnumpy\nndarray\n'
DTYPE = b'cnumpy\ndtype\n'
POINTER = 'A' * 8


def text(value):
    content = value.encode()
    return b'X' + struct.pack('<I', len(content)) + content


def integer(value):
    if -(2**31) <= value < 2**31:
        return b'J' + struct.pack('<i', value)
    content = value.to_bytes(9, 'little', signed=True)
    return b'\x8a' + bytes([len(content)]) + content


def sequence(*items):
    return b'(' + b''.join(items) + b't'


def elements(*items):
    return b'](' + b''.join(items) + b'e'


def mapping(**items):
    return b'}(' + b''.join(text(key) + value for key, value in items.items()) + b'u'


def call(function, *arguments):
    return function + sequence(*arguments) + REDUCE


def data(value):
    return call(b'c_codecs\nencode\n', text(value), text('latin1'))


def dtype(code, order='<', fields=(NONE, NONE, NONE), sizes=(-1, -1, 0)):
    state = sequence(integer(3), text(order), *fields, *map(integer, sizes))
    return call(DTYPE, text(code), FALSE, TRUE) + state + BUILD


def from_core(name, core='numpy._core'):
    return f'c{core}.multiarray\n{name}\n'.encode()


def array(shape, kind, content):
    return with_state(sequence(integer(1), shape, kind, FALSE, content))


def with_state(state):
    return call(from_core('_reconstruct'), NDARRAY, sequence(integer(0)), data('b')) + state + BUILD


def shape(*sizes):
    return sequence(*map(integer, sizes))


def history(**changes):
    numbers = array(shape(1), dtype('f8'), data('\0' * 8))
    state = dict(max_length=integer(10), _log_history=numbers, _count_history=numbers)
    return HISTORY + sequence() + NEWOBJ + mapping(**{**state, **changes}) + BUILD


FORGED_ARRAY = call(NDARRAY, shape(1), text('O'), data(POINTER))
OBJECT_FIELDS = mapping(a=sequence(dtype('O8', '|'), integer(0)))
FORGED = {
    # Arrays of pointers, by the constructor
    'object array over bytes': FORGED_ARRAY,
    'object array read by the constructor': call(NDARRAY, FORGED_ARRAY),
    'object array as a dtype': call(DTYPE, FORGED_ARRAY),
    'new ndarray over bytes': NDARRAY + sequence(shape(1), text('O'), data(POINTER)) + NEWOBJ,
    'new ndarray with strides out of bounds': NDARRAY
    + sequence(shape(4), text('f8'), data('\0' * 32), integer(0), shape(10**9))
    + NEWOBJ,
    'large ndarray that was never written': call(NDARRAY, shape(10**12), text('f8')),
    'object array of None': call(NDARRAY, shape(3), text('O')),
    'structured array with objects': call(NDARRAY, shape(1), elements(sequence(text('a'), text('O'))), data(POINTER)),
    # Arrays of pointers, or beyond their memory, by the state
    'state with the object type': array(shape(1), dtype('O8', '|'), data(POINTER)),
    'state with a list of objects': array(shape(2), dtype('f8'), elements(integer(1), integer(2))),
    'state with an object type and a list': array(shape(1), dtype('O8', '|'), elements(HISTORY)),
    'state with a type by name': array(shape(1), text('O'), data(POINTER)),
    'state of another array': array(shape(1), dtype('f8'), FORGED_ARRAY),
    'state with too few bytes': array(shape(10**6), dtype('f8'), data('\0' * 8)),
    'state with too many bytes': array(shape(1), dtype('f8'), data('\0' * 800)),
    'state with a negative size': array(shape(-1), dtype('f8'), data('\0' * 8)),
    'state with two negative sizes': array(shape(-1, -1), dtype('f8'), data('\0' * 8)),
    'state whose sizes overflow': array(shape(2**32, 2**32), dtype('f8'), data('')),
    'state whose sizes overflow, with a zero': array(shape(0, 2**62, 2**62), dtype('f8'), data('')),
    'state with a size beyond 64 bits': array(shape(2**66), dtype('u1'), data('')),
    'state with 33 dimensions': array(shape(*[1] * 33), dtype('u1'), data('\0')),
    'state with a boolean size': array(sequence(TRUE), dtype('u1'), data('\0')),
    'state with text in place of bytes': array(shape(8), dtype('u1'), text(POINTER)),
    'state with a list as its shape': array(elements(integer(1)), dtype('u1'), data('\0')),
    'state that is too short': with_state(shape(1, 2)),
    'state that is a dict': call(from_core('_reconstruct'), NDARRAY, shape(0), data('b'))
    + mapping(dtype=text('O'))
    + BUILD,
    'attribute of an array': NDARRAY + sequence() + NEWOBJ + sequence(NONE, mapping(strides=shape(10**9))) + BUILD,
    'array whose type has objects': array(shape(1), call(DTYPE, text('O')), data(POINTER)),
    # Types
    'object type': dtype('O8', '|'),
    'object type by its letter': call(DTYPE, text('O')),
    'structured type by fields': call(DTYPE, elements(sequence(text('a'), text('O')))),
    'structured type by text': call(DTYPE, text('f8,O')),
    'structured type by a dict': call(DTYPE, mapping(names=elements(text('a')), formats=elements(text('O')))),
    'subarray type': call(DTYPE, text('(2,)O')),
    'type with a state of fields': dtype('f8', '|', (NONE, sequence(text('a')), OBJECT_FIELDS), (8, 8, 63)),
    'type with a subarray in its state': dtype('f8', '|', (sequence(dtype('O8', '|'), shape(1)), NONE, NONE)),
    'type with the flags of objects': dtype('V8', '|', (NONE, NONE, NONE), (8, 1, 63)),
    'void type': dtype('V8', '|'),
    'text type': dtype('U8'),
    'bytes type': dtype('S8', '|'),
    'time type': dtype('M8'),
    'type with an element size of its own': dtype('f8', '<', sizes=(10**9, 1, 0)),
    'type with an unknown byte order': dtype('f8', 'x'),
    'type with a number as its state': call(DTYPE, text('f8')) + integer(3) + BUILD,
    'type that does not exist': call(DTYPE, text('f7')),
    'type of a history': call(DTYPE, HISTORY),
    # Scalars
    'object scalar': call(from_core('scalar'), dtype('O8', '|'), data(POINTER)),
    'object scalar of an object': call(from_core('scalar'), call(DTYPE, text('O')), HISTORY),
    'scalar with too few bytes': call(from_core('scalar'), dtype('f8'), data('\0')),
    'scalar without bytes': call(from_core('scalar'), dtype('f8')),
    'scalar of a type by name': call(from_core('scalar', 'numpy.core'), text('O'), data(POINTER)),
    # Functions
    'getattr of a constructor': call(GETATTR, HISTORY, text('__init__')),
    'getattr of globals': call(GETATTR, call(GETATTR, HISTORY, text('mean')), text('__globals__')),
    'getattr of an array': call(GETATTR, NDARRAY, text('min')),
    'getattr of a dtype': call(GETATTR, DTYPE, text('mean')),
    'getattr of a history': call(GETATTR, history(), text('mean')),
    'getattr by an object': call(GETATTR, HISTORY, HISTORY),
    'call of a statistic': call(call(GETATTR, HISTORY, text('mean')), history()),
    'state of a function': call(GETATTR, HISTORY, text('mean')) + mapping(__code__=NONE) + BUILD,
    'call by a rebuilding function': call(
        b'ctorch._tensor\n_rebuild_from_type_v2\n', NDARRAY, NDARRAY, shape(1), mapping(dtype=text('O'))
    ),
    'attribute by a rebuilding function': call(
        b'ctorch._tensor\n_rebuild_from_type_v2\n', HISTORY, HISTORY, sequence(), mapping(_log_history=HISTORY)
    ),
    # Logs
    'history of a list': history(_log_history=elements(integer(1))),
    'history of a class': history(_log_history=NDARRAY),
    'history of arrays of two lengths': history(_log_history=array(shape(2), dtype('u1'), data('\0\0'))),
    'history of a matrix': history(_log_history=array(shape(1, 1), dtype('u1'), data('\0'))),
    'history without a length': history(max_length=NONE),
    'history of length -1': history(max_length=integer(-1)),
    'history with a state that is not a dict': HISTORY + sequence() + NEWOBJ + sequence() + BUILD,
    'history with arguments': call(HISTORY, elements(integer(1)), elements(integer(1))),
    'history with a second state': history() + mapping(_log_history=NONE) + BUILD,
    # What torch itself refuses
    'os.system': call(b'cposix\nsystem\n', text('true')),
    'eval': call(b'c__builtin__\neval\n', text('1')),
    'numpy.load': call(b'cnumpy\nload\n', text('x')),
    'numpy.frombuffer': call(b'cnumpy\nfrombuffer\n', data(POINTER), text('O')),
    'numpy.ndarray by another name': call(b'cnumpy.core.multiarray\nndarray\n', shape(1), text('O'), data(POINTER)),
    'numpy.dtypes.ObjectDType': b'cnumpy.dtypes\nObjectDType\n' + sequence() + REDUCE,
    'operator.attrgetter': call(b'coperator\nattrgetter\n', text('__class__')),
    'bytes of a number': call(b'c__builtin__\nbytes\n', integer(10)),
}


def in_archive(pickled):
    """A checkpoint in torch's format with a pickle of one's own."""
    template, forged = io.BytesIO(), io.BytesIO()
    torch.save({'weight': torch.zeros(4)}, template)
    with zipfile.ZipFile(template) as source, zipfile.ZipFile(forged, 'w') as archive:
        for record in source.infolist():
            own = record.filename.endswith('data.pkl')
            archive.writestr(record.filename, pickled if own else source.read(record))
    return forged.getvalue()
