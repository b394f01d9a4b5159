{{- define "mapreduce-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters, so that a suffix fits within the 63 of a DNS label. */}}
{{- define "mapreduce-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "mapreduce-operator.releaseLabels" -}}
app.kubernetes.io/name: {{ include "mapreduce-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Of the component that the context names: merge (dict "component" "api") . */}}
{{- define "mapreduce-operator.selectorLabels" -}}
{{ include "mapreduce-operator.releaseLabels" . }}
app.kubernetes.io/component: {{ .component | default "operator" }}
{{- end }}

{{- define "mapreduce-operator.labels" -}}
{{- $labels := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/part-of" "mapreduce-operator"
  "app.kubernetes.io/managed-by" .Release.Service }}
{{- merge $labels (include "mapreduce-operator.selectorLabels" . | fromYaml) .Values.commonLabels | toYaml }}
{{- end }}

{{- define "mapreduce-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mapreduce-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "mapreduce-operator.image" -}}
{{- with .Values.global.imageRegistry }}{{ . }}/{{ end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "mapreduce-operator.claimName" -}}
{{- default (include "mapreduce-operator.fullname" .) .Values.storage.persistence.existingClaim }}
{{- end }}

{{/* "true" if the storage is a volume that one node at a time can mount: whoever needs it must be on that node. */}}
{{- define "mapreduce-operator.storageIsOnOneNode" -}}
{{- with .Values.storage }}
{{- if and (hasPrefix "file://" .url) (not (has "ReadWriteMany" .persistence.accessModes)) }}true{{ end }}
{{- end }}
{{- end }}

{{/* "true" if several pods must be on one node. */}}
{{- define "mapreduce-operator.onOneNode" -}}
{{- if or .Values.api.enabled (gt (int .Values.replicas) 1) }}{{ include "mapreduce-operator.storageIsOnOneNode" . }}{{ end }}
{{- end }}

{{/* On one node, of operator and API alike: whoever starts first takes the volume to its node, so that each must follow the
other, and must be where the other may be. */}}
{{- define "mapreduce-operator.affinity" -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" }}
{{- $affinity := dict }}
{{- if include "mapreduce-operator.onOneNode" . }}
{{- $either := dict "key" "app.kubernetes.io/component" "operator" "In" "values" (list "operator" "api") }}
{{- $labels := include "mapreduce-operator.releaseLabels" . | fromYaml }}
{{- $_ := set $term "labelSelector" (dict "matchLabels" $labels "matchExpressions" (list $either)) }}
{{- $_ := set $affinity "podAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) }}
{{- else if gt (int .Values.replicas) 1 }}
{{- $_ := set $term "labelSelector" (dict "matchLabels" (include "mapreduce-operator.selectorLabels" . | fromYaml)) }}
{{- $_ := set $affinity "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) }}
{{- end }}
{{- range $kind, $given := .Values.affinity }}
{{- $_ := set $affinity $kind $given }}
{{- end }}
{{- with $affinity }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* A constraint that says of no pods which ones count means those of its component. */}}
{{- define "mapreduce-operator.spread" -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "mapreduce-operator.selectorLabels" . | fromYaml)) }}
{{- range eq (.component | default "") "api" | ternary .Values.api.topologySpreadConstraints .Values.topologySpreadConstraints }}
- {{ hasKey . "labelSelector" | ternary . (merge (deepCopy .) $own) | toYaml | indent 2 | trim }}
{{- end }}
{{- end }}

{{/* What the pods of all components have in common, but for their volumes. */}}
{{- define "mapreduce-operator.podSettings" -}}
# Variables of the namespace's Services could pass for settings of ours.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "mapreduce-operator.podMetadata" -}}
labels:
  {{- merge (include "mapreduce-operator.labels" . | fromYaml) .Values.podLabels | toYaml | nindent 2 }}
{{- with .Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The API, whose context names it, may have keys that only read. */}}
{{- define "mapreduce-operator.storageSecret" -}}
{{- $secret := .Values.storage.s3.existingSecret }}
{{- if eq (.component | default "") "api" }}{{ .Values.api.existingSecret | default $secret }}{{ else }}{{ $secret }}{{ end }}
{{- end }}

{{/* Where the storage is, and how to get at it. */}}
{{- define "mapreduce-operator.storageEnv" -}}
- name: MAPREDUCE_STORAGE_URL
  value: {{ .Values.storage.url | quote }}
{{- if hasPrefix "s3://" .Values.storage.url }}
{{- with .Values.storage.s3 }}
- name: MAPREDUCE_S3_ENDPOINT
  value: {{ .endpoint | quote }}
- name: MAPREDUCE_S3_REGION
  value: {{ .region | quote }}
{{- if kindIs "bool" .pathStyle }}
- name: MAPREDUCE_S3_PATH_STYLE
  value: {{ .pathStyle | quote }}
{{- end }}
{{- with include "mapreduce-operator.storageSecret" $ }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: AWS_ACCESS_KEY_ID
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: AWS_SECRET_ACCESS_KEY
- name: AWS_SESSION_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: AWS_SESSION_TOKEN
      optional: true
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* For the API, whose context names it, the storage is read-only. */}}
{{- define "mapreduce-operator.volumeMounts" -}}
{{- if hasPrefix "file://" .Values.storage.url }}
- name: storage
  mountPath: {{ .Values.storage.url | trimPrefix "file://" }}
  {{- if eq (.component | default "") "api" }}
  readOnly: true
  {{- end }}
{{- end }}
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "mapreduce-operator.volumes" -}}
{{- if hasPrefix "file://" .Values.storage.url }}
- name: storage
  {{- if .Values.storage.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ include "mapreduce-operator.claimName" . | quote }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}
- name: tmp
  emptyDir: {}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the schema cannot say, or not in words that help. */}}
{{- define "mapreduce-operator.checkValues" -}}
{{- $storage := .Values.storage }}
{{- $fullname := include "mapreduce-operator.fullname" . }}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $fullname) }}
{{- fail (printf "objects would be called %s, after the release, but a Service's name begins with a letter and has no dots: set fullnameOverride, or give the release another name" $fullname) }}
{{- end }}
{{- if and .Values.api.enabled .Values.serviceAccount.create .Values.api.serviceAccount.create }}
{{- $account := include "mapreduce-operator.serviceAccountName" . }}
{{- if eq $account (include "mapreduce-operator.apiServiceAccountName" .) }}
{{- fail (printf "serviceAccount.name and api.serviceAccount.name both mean %s, but the API must not have the operator's rights: give them two names" $account) }}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "MAPREDUCE_" .name }}
{{- fail (printf "extraEnv has %s, but the chart sets the operator's own variables, MAPREDUCE_..., from its other values, and two of one name would contradict each other: set the value instead, which README.md and values.yaml of the chart describe" .name) }}
{{- else if and (has .name (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN")) (or $storage.s3.existingSecret $.Values.api.existingSecret) }}
{{- fail (printf "extraEnv has %s, but the chart takes that from the Secret of storage.s3.existingSecret or api.existingSecret, and two of one name would contradict each other: leave out one of them" .name) }}
{{- end }}
{{- end }}
{{- range .Values.extraVolumes }}
{{- if has .name (list "storage" "tmp") }}
{{- fail (printf "extraVolumes has a volume called %s, but so is one of the chart's own, and a pod's volumes have different names: give it another name" .name) }}
{{- end }}
{{- end }}
{{- if not (regexMatch "^(file://(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)$" $storage.url) }}
{{- fail (printf "storage.url is %q, which is neither a folder, such as file:///var/lib/mapreduce-operator, nor a bucket, s3://bucket/prefix: a path is absolute, does not end in a slash, and has letters, digits, dots, - and _ between slashes, with no dot first; a bucket's name has 3 to 63 lower-case letters, digits, dots and -. The address of another S3 service belongs in storage.s3.endpoint, and keys in a Secret" $storage.url) }}
{{- end }}
{{- if hasPrefix "file://" $storage.url }}
{{- $path := trimPrefix "file://" $storage.url }}
{{- if regexMatch "^/(opt(/mapreduce-operator(/.*)?)?|var(/run(/.*)?)?|(bin|dev|etc|lib|lib32|lib64|proc|run|sbin|sys|tmp|usr)(/.*)?)$" $path }}
{{- fail (printf "storage.url is %s, but at %s the container has other files, which must not lie in the storage or be hidden by it: set storage.url to a folder of its own, such as file:///var/lib/mapreduce-operator" $storage.url $path) }}
{{- end }}
{{- if .Values.api.existingSecret }}
{{- fail (printf "api.existingSecret is set, but storage.url is %s: set storage.url to s3://bucket/prefix, or leave api.existingSecret empty" $storage.url) }}
{{- end }}
{{- range $name, $value := $storage.s3 }}
{{- if not (has $value (list nil "")) }}
{{- fail (printf "storage.s3.%s is set, but storage.url is %s: set storage.url to s3://bucket/prefix, or leave storage.s3 as it is" $name $storage.url) }}
{{- end }}
{{- end }}
{{- if .Values.api.enabled }}
{{- if not $storage.persistence.enabled }}
{{- fail "api.enabled is true, but without storage.persistence.enabled the storage is within the operator's pod, where the API cannot read it: set api.enabled to false, or keep the data in a volume or a bucket" }}
{{- else if has "ReadWriteOncePod" $storage.persistence.accessModes }}
{{- fail "api.enabled is true, but a volume with the access mode ReadWriteOncePod takes one pod, which is the operator's: set api.enabled to false, or storage.persistence.accessModes to [ReadWriteOnce]" }}
{{- end }}
{{- end }}
{{- if gt (int .Values.replicas) 1 }}
{{- if not $storage.persistence.enabled }}
{{- fail (printf "replicas is %d, but without storage.persistence.enabled each pod has a storage of its own, and would know nothing of what another one did: set replicas to 1, or keep the data in a volume or a bucket" (int .Values.replicas)) }}
{{- else if has "ReadWriteOncePod" $storage.persistence.accessModes }}
{{- fail (printf "replicas is %d, but a volume with the access mode ReadWriteOncePod takes one pod: set replicas to 1, or storage.persistence.accessModes to [ReadWriteOnce]" (int .Values.replicas)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
