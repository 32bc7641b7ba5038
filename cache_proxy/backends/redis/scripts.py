"""What the servers do for leases and counters, as scripts: each looks and acts in one moment, by the server's clock.

They go by ``EVAL``, always whole, so that nothing has to be known of a server that has just taken over. They run on
Redis from 6.2 on and on Valkey, and name all their keys, as a Cluster and an ACL want it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cache_proxy.backends.base import WORDS_MOST, Key
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


# In the place of a lease stand its owner, or nothing where only words are left, and then the words of owners before
# him, the newest first: until when each is told (13 digits, milliseconds since the epoch), its owner, and itself. All
# owners and words have their length before them, in a byte.
_READ = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function cut(held, at)
  local last = at + (held:byte(at) or 0)
  return held:sub(at + 1, last), last + 1
end

local function read(held)
  local holder, at = cut(held, 1)
  local words = {}
  while at <= #held do
    local first, till = at, tonumber(held:sub(at, at + 12))
    local owner, word
    owner, at = cut(held, at + 13)
    word, at = cut(held, at)
    if till and till > now then
      words[#words + 1] = {owner = owner, word = word, till = till, whole = held:sub(first, at - 1)}
    end
  end
  return holder, words
end
"""

# A lease that has no end, or none within an hour, was put there by somebody else: nobody would give it up.
#
# The reply for each lease is whether the value is held, "1" or "0", and then "=" (it is yours), "+" and its owner, or
# "-" and the word of the owner that was waited for.
ACQUIRE = (
    _READ
    + """
local owner, ms, leases, said = ARGV[1], ARGV[2], #ARGV - 2, {}

local function ends(lease)
  -- Who may not ask believes it.
  local left = redis.pcall('PTTL', lease)
  return type(left) ~= 'number' or (left >= 0 and left <= 3600000)
end

local all = redis.call('MGET', unpack(KEYS, 1, leases))
for at = 1, leases do
  local holder, words = read(all[at] or '')
  local waited_for, carried, told = ARGV[at + 2], {}, nil
  for _, each in ipairs(words) do
    carried[#carried + 1] = each.whole
    if each.owner == waited_for then
      told = each.word
    end
  end
  local stored = KEYS[leases + at] and redis.call('EXISTS', KEYS[leases + at]) == 1 and '1' or '0'
  if told and holder ~= owner and holder ~= waited_for then
    said[at] = stored .. '-' .. told
  elseif holder ~= '' and holder ~= owner and ends(KEYS[at]) then
    said[at] = stored .. '+' .. holder
  else
    redis.call('SET', KEYS[at], string.char(#owner) .. owner .. table.concat(carried), 'PX', ms)
    said[at] = stored .. '='
  end
end
return said
"""
)

RENEW = """
local ms, said, all = ARGV[1], {}, redis.call('MGET', unpack(KEYS))
for at, lease in ipairs(KEYS) do
  local held, owner = all[at] or '', ARGV[at + 1]
  said[at] = 0
  if held:sub(1, 1 + #owner) == string.char(#owner) .. owner then
    redis.call('SET', lease, held, 'PX', ms)
    said[at] = 1
  end
end
return said
"""

# Without a word the time it is told is 0.
RELEASE = (
    _READ
    + f"local most = {WORDS_MOST}\n"
    + """
local ms, word, said, all = tonumber(ARGV[1]), ARGV[2], {}, redis.call('MGET', unpack(KEYS))
for at, lease in ipairs(KEYS) do
  local owner = ARGV[at + 2]
  local holder, words = read(all[at] or '')
  said[at] = 0
  if holder == owner then
    local left, last = {}, ms > 0 and now + ms or 0
    if ms > 0 then
      left[1] = string.format('%013.0f', last) .. string.char(#owner) .. owner .. string.char(#word) .. word
    end
    for _, each in ipairs(words) do
      if #left < most and (ms == 0 or each.owner ~= owner) then
        left[#left + 1] = each.whole
        last = math.max(last, each.till)
      end
    end
    if #left > 0 then
      redis.call('SET', lease, string.char(0) .. table.concat(left), 'PX', last - now)
    else
      redis.call('UNLINK', lease)
    end
    said[at] = 1
  end
end
return said
"""
)

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
