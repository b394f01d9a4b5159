-- Open letters are what a queue is for. Degraded is one that a person has to do something about: its job stands still
-- since it is full, or its eligibility rules are wrong.
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
for _, name in ipairs({ "Stalled", "Full" }) do
  if of[name] ~= nil and of[name].status == "True" then
    return { status = "Degraded", message = of[name].message }
  end
end
return { status = "Healthy", message = of.Empty.message }
