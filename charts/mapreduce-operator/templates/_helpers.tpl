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

{{- define "mapreduce-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mapreduce-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "mapreduce-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "mapreduce-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: mapreduce-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "mapreduce-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mapreduce-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "mapreduce-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "mapreduce-operator.claimName" -}}
{{- default (include "mapreduce-operator.fullname" .) .Values.storage.persistence.existingClaim }}
{{- end }}

{{/* "true" if all pods must be on the node of a volume that no other node can mount meanwhile. */}}
{{- define "mapreduce-operator.onOneNode" -}}
{{- with .Values }}
{{- if and (gt (int .replicas) 1) (hasPrefix "file://" .storage.url) (not (has "ReadWriteMany" .storage.persistence.accessModes)) }}true{{ end }}
{{- end }}
{{- end }}

{{- define "mapreduce-operator.affinity" -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "mapreduce-operator.selectorLabels" . | fromYaml)) }}
{{- $affinity := dict }}
{{- if include "mapreduce-operator.onOneNode" . }}
{{- $_ := set $affinity "podAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) }}
{{- else if gt (int .Values.replicas) 1 }}
{{- $_ := set $affinity "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) }}
{{- end }}
{{- range $kind, $given := .Values.affinity }}
{{- $_ := set $affinity $kind $given }}
{{- end }}
{{- with $affinity }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* What the schema cannot say, or not in words that help. */}}
{{- define "mapreduce-operator.checkValues" -}}
{{- $storage := .Values.storage }}
{{- if hasPrefix "file://" $storage.url }}
{{- range $name, $value := $storage.s3 }}
{{- if not (has $value (list nil "")) }}
{{- fail (printf "storage.s3.%s is set, but storage.url is %s: set storage.url to s3://bucket/prefix, or leave storage.s3 as it is" $name $storage.url) }}
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
