if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["mapreduce.dev/checkpoint"] = "argocd-" .. obj.metadata.resourceVersion
return obj
