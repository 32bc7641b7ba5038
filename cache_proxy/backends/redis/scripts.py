"""What the servers do for leases and counters, as scripts: each looks and acts in one moment, by the server's clock.

They go by ``EVAL``, always whole, so that nothing has to be known of a server that has just taken over. They run on
Redis from 6.2 on and on Valkey, and name all their keys, as a Cluster and an ACL want it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cache_proxy.backends.base import Key
from cache_proxy.backends.redis.buckets import Bucket
from cache_proxy.backends.redis.delivery import Order
from cache_proxy.backends.redis.nodes import Words

Argument = bytes | str | int | float


class Runs(Protocol):
    """Runs commands, in one trip to each server. What a server says stands at the command's place: a value or an
    error. ``reading`` is as with ``Delivery``.
    """

    async def __call__(self, orders: Sequence[Order], *, reading: bool) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where scripts run. What belongs together is in one bucket."""

    name: Callable[[Key], bytes]
    """What the value of a key is called."""
    bucket: Callable[[Key], Bucket]
    run: Runs


def script(text: str, names: Sequence[bytes], arguments: Sequence[Argument]) -> Words:
    """The command that runs this script."""
    return "EVAL", text, len(names), *names, *(each if isinstance(each, bytes) else str(each) for each in arguments)


# A lease is "+" and its owner. A word is "-", its owner with the length before it, and the word. The reply for each
# lease is whether the value is held, "1" or "0", and then "=" (it is yours), "+" and the owner, or "-" and the word.
ACQUIRE = """
local owner, ms, leases, said = ARGV[1], ARGV[2], #ARGV - 2, {}
local all = redis.call('MGET', unpack(KEYS, 1, leases))
for at = 1, leases do
  local held = all[at] or ''
  local waited_for = ARGV[at + 2]
  local word = '-' .. string.char(#waited_for) .. waited_for
  local stored = KEYS[leases + at] and redis.call('EXISTS', KEYS[leases + at]) == 1 and '1' or '0'
  if held:sub(1, 1) == '+' and held ~= '+' .. owner then
    said[at] = stored .. held
  elseif waited_for ~= '' and held:sub(1, #word) == word then
    said[at] = stored .. '-' .. held:sub(#word + 1)
  else
    redis.call('SET', KEYS[at], '+' .. owner, 'PX', ms)
    said[at] = stored .. '='
  end
end
return said
"""

RENEW = """
local ms, said, all = ARGV[1], {}, redis.call('MGET', unpack(KEYS))
for at, lease in ipairs(KEYS) do
  local ours = '+' .. ARGV[at + 1]
  said[at] = 0
  if all[at] == ours then
    redis.call('SET', lease, ours, 'PX', ms)
    said[at] = 1
  end
end
return said
"""

# Without a word the time it is told is 0.
RELEASE = """
local ms, word, said, all = ARGV[1], ARGV[2], {}, redis.call('MGET', unpack(KEYS))
for at, lease in ipairs(KEYS) do
  local owner = ARGV[at + 2]
  said[at] = 0
  if all[at] == '+' .. owner then
    if ms == '0' then
      redis.call('UNLINK', lease)
    else
      redis.call('SET', lease, '-' .. string.char(#owner) .. owner .. word, 'PX', ms)
    end
    said[at] = 1
  end
end
return said
"""

# All is in seconds: what is wanted of a bucket, by the time in which so much comes back, and what it lacks. Written
# down are the moment, and what each bucket lacked then. So a clock that is set back only stands still.
TAKE = """
local at_most, time = tonumber(ARGV[1]), redis.call('TIME')
local now, debts, wait = time[1] + time[2] / 1000000, {}, 0
for number in string.gmatch(redis.call('MGET', KEYS[1])[1] or '', '%S+') do
  debts[#debts + 1] = tonumber(number)
end
local passed = math.max(0, now - (table.remove(debts, 1) or now))
local longest, state = 0, {string.format('%.6f', now)}
for bucket = 1, math.max(#debts, #ARGV - 1) do
  local debt = math.max(0, (debts[bucket] or 0) - passed)
  local wanted = tonumber(ARGV[bucket + 1] or 0)
  if ARGV[bucket + 1] then
    wait = math.max(wait, debt + math.min(wanted, 60) - 60)
  end
  longest = math.max(longest, debt + wanted)
  state[bucket + 1] = string.format('%.6f', debt + wanted)
end
if wait <= at_most and longest > 0 then
  redis.call('SET', KEYS[1], table.concat(state, ' '), 'PX', math.ceil(longest * 1000))
end
return string.format('%.17g', wait)
"""

ENTER = """
local ticket, limit, ms, time = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ticket) and redis.call('ZCARD', KEYS[1]) >= limit then
  return 0
end
redis.call('ZADD', KEYS[1], now + ms, ticket)
if redis.call('PTTL', KEYS[1]) < ms then
  redis.call('PEXPIRE', KEYS[1], ms)
end
return 1
"""

LEAVE = "return redis.call('ZREM', KEYS[1], ARGV[1])"
