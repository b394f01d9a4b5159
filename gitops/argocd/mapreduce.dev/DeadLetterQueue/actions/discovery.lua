local letters = (obj.status or {}).letters
if letters == nil or letters.open == 0 then
  return {}
end
return { ["redrive-all"] = { iconClass = "fa fa-fw fa-envelope-open" } }
