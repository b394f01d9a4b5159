-- The generation makes the token a new one each time, and the same one if it is clicked twice.
obj.spec.restart = { phase = "Map", token = "argocd-" .. obj.metadata.generation }
if obj.spec.cancel then
  obj.spec.cancel = false
end
return obj
