{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/* Where the forecaster keeps its models, and where its feeds' credentials, files and addresses are. */}}
{{- define "embellie.forecasterEnv" -}}
- name: EMBELLIE_CACHE
  value: /var/lib/embellie/cache
- name: EMBELLIE_MODELS
  value: /var/lib/embellie/cache/models
{{- if include "embellie.bundleVolume" . }}
- name: EMBELLIE_BUNDLES
  value: /etc/embellie/bundles
{{- end }}
{{- if .Values.forecaster.credentialsSecret }}
{{- range $key := list "EIA_API_KEY" "ENTSOE_API_KEY" "ELECTRICITYMAPS_TOKEN" "OPENMETEO_API_KEY" "EMBELLIE_PROMETHEUS_TOKEN" }}
- name: {{ $key }}_FILE
  value: /etc/embellie/credentials/{{ $key }}
{{- end }}
{{- end }}
{{- if and .Values.prometheusUrl (not .Values.forecaster.environment.EMBELLIE_PROMETHEUS_URL) }}
- name: EMBELLIE_PROMETHEUS_URL
  value: {{ .Values.prometheusUrl | quote }}
{{- end }}
{{- range $key, $value := .Values.forecaster.environment }}
- name: {{ $key }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* The volume that holds bundles; empty where none is named. */}}
{{- define "embellie.bundleVolume" -}}
{{- $bundles := .Values.forecaster.bundles -}}
{{- if gt (len (compact (list $bundles.existingClaim $bundles.configMap $bundles.hostPath))) 1 -}}
{{- fail "forecaster.bundles: name only one of existingClaim, configMap and hostPath, and empty the others" -}}
{{- end -}}
{{- if $bundles.existingClaim -}}
persistentVolumeClaim:
  claimName: {{ $bundles.existingClaim }}
  readOnly: true
{{- else if $bundles.configMap -}}
configMap:
  name: {{ $bundles.configMap }}
  # Without it the forecast stands on a lower rung; the operator's pod must not wait for it.
  optional: true
{{- else if $bundles.hostPath -}}
hostPath:
  path: {{ $bundles.hostPath }}
{{- end -}}
{{- end -}}
