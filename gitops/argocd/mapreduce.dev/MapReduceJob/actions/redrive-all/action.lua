-- The Redrive belongs to the job, so that it appears below it.
local redrive = {
  apiVersion = "mapreduce.dev/v1alpha1",
  kind = "Redrive",
  metadata = {
    name = obj.metadata.name .. "-argocd-" .. obj.metadata.resourceVersion,
    namespace = obj.metadata.namespace,
    ownerReferences = {
      { apiVersion = obj.apiVersion, kind = obj.kind, name = obj.metadata.name, uid = obj.metadata.uid },
    },
  },
  spec = { queue = obj.status.deadLetters.queue, selection = { all = true } },
}
return { { operation = "create", resource = redrive } }
