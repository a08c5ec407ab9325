-- Between calls: the process is alive, or says good-bye; dead ones are swept.

if asked.leaving and redis.call("EXISTS", permits_key(asked.process)) == 0 then
  redis.call("ZREM", base .. "processes", asked.process)
  sweep()
else
  beat()
end
return answer({})
