-- As Argo CD rates a Job: Progressing while it runs, so that sync waves and hooks wait for its end. A job that ended
-- with dead letters is Healthy, and its message says how many are open.
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
local function holds(name)
  return of[name] ~= nil and of[name].status == "True"
end

if holds("Failed") then
  return { status = "Degraded", message = of.Failed.message }
end
if holds("Stalled") then
  return { status = "Degraded", message = of.Stalled.message }
end
if holds("Complete") then
  local message = of.Complete.message
  if status.deadLetters ~= nil and status.deadLetters.open ~= nil and status.deadLetters.open > 0 then
    message = message .. "; open dead letters: " .. status.deadLetters.open
  end
  return { status = "Healthy", message = message }
end
if holds("Suspended") then
  return { status = "Suspended", message = of.Suspended.message }
end

local message = status.phase
if status.progress ~= nil then
  message = message .. ", " .. status.progress
end
return { status = "Progressing", message = message .. ": " .. of.Progressing.message }
