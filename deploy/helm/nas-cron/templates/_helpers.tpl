{{- define "nas-cron.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "nas-cron.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nas-cron.labels" -}}
{{ include "nas-cron.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "nas-cron.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nas-cron.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "nas-cron.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "nas-cron.secret" -}}
{{- if .Values.externalSecret.enabled -}}
{{- .Values.secret.name | default (printf "%s-settings" (include "nas-cron.fullname" .)) -}}
{{- else -}}
{{- .Values.secret.name -}}
{{- end -}}
{{- end -}}

{{/* Setting: key of the Secret, for every secret setting. */}}
{{- define "nas-cron.secretFiles" -}}
{{- if .Values.externalSecret.enabled -}}
{{- $files := dict -}}
{{- range $setting, $_ := .Values.externalSecret.data -}}{{- $_ := set $files $setting $setting -}}{{- end -}}
{{- toYaml $files -}}
{{- else -}}
{{- toYaml .Values.secret.files -}}
{{- end -}}
{{- end -}}

{{/* Checks that the schema of the values cannot express. */}}
{{- define "nas-cron.check" -}}
{{- if not (or .Values.secret.name .Values.externalSecret.enabled) -}}
{{- fail "secret.name is missing: create a Secret with database_url and key_encryption_key and name it, or set externalSecret.enabled" -}}
{{- end -}}
{{- if and .Values.externalSecret.enabled (not .Values.externalSecret.storeRef.name) -}}
{{- fail "externalSecret.storeRef.name is missing: name the SecretStore or ClusterSecretStore that has the secrets" -}}
{{- end -}}
{{- if not (hasKey (include "nas-cron.secretFiles" . | fromYaml) "database_url") -}}
{{- fail "the database's URL is missing: secret.files (or externalSecret.data) needs database_url" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name the portal's host, or set ingress.enabled to false" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty: name the Gateway, or set httpRoute.enabled to false" -}}
{{- end -}}
{{- range .Values.paths -}}
{{- if or (hasPrefix "/api/admin" .) (eq . "/") (eq . "/api") (eq . "/api/") -}}
{{- fail (printf "paths has %q, which would route the admin API: route only paths of agents, such as /api/agent-cron/" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nas-cron.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "nas-cron.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* The settings that every command of nas-cron needs. Numbers of a values file are floats, and 2000000 must not become 2e+06. */}}
{{- define "nas-cron.environment" -}}
{{- range $setting, $value := .Values.config }}
- name: NAS_CRON_{{ upper $setting }}
  value: {{ if and (kindIs "float64" $value) (eq $value (floor $value)) }}{{ $value | int64 | toString | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}
{{- end }}
{{- range $setting, $_ := include "nas-cron.secretFiles" . | fromYaml }}
- name: NAS_CRON_{{ upper $setting }}_FILE
  value: /run/secrets/nas-cron/{{ $setting }}
{{- end }}
{{- end -}}

{{- define "nas-cron.secretVolume" -}}
- name: secrets
  secret:
    secretName: {{ include "nas-cron.secret" . }}
    defaultMode: 0440
    items:
      {{- range $setting, $key := include "nas-cron.secretFiles" . | fromYaml }}
      - { key: {{ $key | quote }}, path: {{ $setting | quote }} }
      {{- end }}
{{- end -}}
