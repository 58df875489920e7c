-- Leave an order for whoever serves the endpoint.
-- KEYS: state   ARGV: pairs of field and value
-- Reply: the turn, which rises with every order.
local state = KEYS[1]
local turn = redis.call('HINCRBY', state, 'turn', 1)
for i = 1, #ARGV, 2 do
  redis.call('HSET', state, ARGV[i], ARGV[i + 1])
end
return turn
