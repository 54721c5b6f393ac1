"""Argument checks: one function per kind of argument, and a one-line message per error.

Every message reads "<name> must be <expected>, got <value>.", with the value shortened. Values can
be checked only if they are concrete. Under `jax.jit` and `jax.vmap` only shapes and dtypes are
checked, and invalid values lead to a status or NaN.
"""

from .arrays import FINITE as FINITE
from .arrays import NOT_NEGATIVE as NOT_NEGATIVE
from .arrays import POSITIVE as POSITIVE
from .arrays import Range as Range
from .arrays import above as above
from .arrays import as_floating as as_floating
from .arrays import broadcast as broadcast
from .arrays import floating as floating
from .arrays import numbers as numbers
from .arrays import parameter as parameter
from .arrays import same_length as same_length
from .arrays import within as within
from .kinds import Wrapped as Wrapped
from .kinds import array_or_none as array_or_none
from .kinds import is_concrete as is_concrete
from .kinds import is_floating as is_floating
from .kinds import is_integer as is_integer
from .kinds import unwrapped as unwrapped
from .messages import check_elements as check_elements
from .messages import raise_if as raise_if
from .messages import short_repr as short_repr
from .messages import value_error as value_error
from .networks import delays as delays
from .networks import input_times as input_times
from .networks import mask_like as mask_like
from .networks import neuron_parameters as neuron_parameters
from .networks import observation_times as observation_times
from .networks import output_indices as output_indices
from .networks import precision as precision
from .networks import weight_matrix as weight_matrix
from .values import choice as choice
from .values import count as count
from .values import flag as flag
from .values import function as function
from .values import index as index
from .values import instance as instance
from .values import integer as integer
from .values import is_integer_scalar as is_integer_scalar
from .values import is_real_scalar as is_real_scalar
from .values import key as key
from .values import not_negative as not_negative
from .values import number as number
from .values import path as path
from .values import positive as positive
from .values import real_dtype as real_dtype
from .values import shape as shape
