-- A Redrive runs once, like a Job. One whose items failed again is Healthy: it did what it was asked for, and says so.
local status = obj.status
if status == nil or status.conditions == nil then
  return { status = "Progressing", message = "waiting for the operator" }
end
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen the last change yet" }
end

local of = {}
for _, condition in ipairs(status.conditions) do
  of[condition.type] = condition
end
if of.Failed.status == "True" then
  return { status = "Degraded", message = of.Failed.message }
end
if of.Complete.status == "True" then
  return { status = "Healthy", message = of.Complete.message }
end
return { status = "Progressing", message = of.Progressing.message }
