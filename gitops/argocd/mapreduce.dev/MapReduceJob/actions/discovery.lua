-- Only what has an effect now is offered. Nothing is before the items are planned: an action gives the whole object
-- back, and its items are safe from that as soon as they cannot be changed any more.
local spec, status = obj.spec, obj.status or {}
local finished, letters = status.completionTime ~= nil, status.deadLetters or {}
local checkpoints = spec.checkpoint == nil or spec.checkpoint.enabled ~= false

local actions = {}
local function offer(name, icon, possible)
  if status.plan ~= nil and possible then
    actions[name] = { iconClass = "fa fa-fw " .. icon }
  end
end

offer("suspend", "fa-pause", not finished and not spec.suspend)
offer("resume", "fa-play", spec.suspend)
offer("cancel", "fa-stop", not finished and not spec.cancel)
offer("restart-map", "fa-redo", finished)
offer("restart-reduce", "fa-compress", finished and spec.reduce ~= nil)
offer("checkpoint", "fa-flag", not finished and checkpoints)
offer("redrive-all", "fa-envelope-open", letters.queue ~= nil and letters.queue ~= "" and letters.open > 0)
return actions
