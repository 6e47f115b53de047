{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/* The switch is the policies' parameter. A missing key reads as off; a missing ConfigMap never gets here. */}}
{{- define "embellie.switchedOn" -}}
- name: switched-on
  expression: |-
    params.?data.enabled.orValue('') == 'true' &&
    params.?data.locked.orValue('') != 'true' &&
    params.?data.namespaces.orValue('').contains(',' + request.namespace + ',')
{{- end -}}

{{/* What a hold would break, or what is somebody else's to start. */}}
{{- define "embellie.ordinary" -}}
- name: without-owner
  expression: object.metadata.?ownerReferences.orValue([]).size() == 0
- name: not-queued-by-kueue
  expression: "!('kueue.x-k8s.io/queue-name' in object.metadata.labels)"
- name: not-a-hook
  expression: |-
    !object.metadata.?annotations.orValue({}).exists(key, key in ['helm.sh/hook', 'argocd.argoproj.io/hook'])
{{- end -}}

{{- define "embellie.holdBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: {{ include "embellie.name" .root }}-{{ .policy }}
  labels:
    {{- include "embellie.labels" .root | nindent 4 }}
spec:
  policyName: {{ include "embellie.name" .root }}-{{ .policy }}
  paramRef:
    name: {{ include "embellie.name" .root }}-switch
    namespace: {{ .root.Release.Namespace }}
    parameterNotFoundAction: Allow
{{- end -}}

{{/* The operator's ServiceAccount, as CEL. */}}
{{- define "embellie.operatorAccount" -}}
'system:serviceaccount:{{ .Release.Namespace }}:{{ include "embellie.name" . }}-operator'
{{- end -}}

{{/* Our own ServiceAccounts, as a list in CEL. */}}
{{- define "embellie.ourAccounts" -}}
[
  {{ include "embellie.operatorAccount" . }},
  'system:serviceaccount:{{ .Release.Namespace }}:{{ include "embellie.name" . }}-watchdog',
]
{{- end -}}
