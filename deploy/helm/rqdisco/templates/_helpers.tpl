{{- define "rqdisco.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "rqdisco.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rqdisco.labels" -}}
{{ include "rqdisco.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* The pod, the same in all modes but for its variables and volumes. */ -}}
{{- define "rqdisco.pod" -}}
{{- $name := include "rqdisco.fullname" . -}}
metadata:
  labels:
    {{- include "rqdisco.labels" . | nindent 4 }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  # Otherwise Kubernetes sets RQDISCO_... variables of its own, named after the Service.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- if .Values.affinity }}
  affinity:
    {{- toYaml .Values.affinity | nindent 4 }}
  {{- else if ne .Values.mode "single" }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "rqdisco.selector" . | nindent 16 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: rqdisco
      image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        {{- if .Values.access.tokensSecret }}
        - name: RQDISCO_TOKENS
          value: /etc/rqdisco/tokens/tokens
        {{- else }}
        # Only the NetworkPolicy keeps other clients out.
        - name: RQDISCO_OPEN
          value: "yes"
        {{- end }}
        {{- if .Values.metrics.enabled }}
        - name: RQDISCO_METRICS_LISTEN
          value: tcp:{{ .Values.metrics.port }}
        {{- end }}
        {{- if eq .Values.mode "peers" }}
        - name: RQDISCO_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: RQDISCO_PEER_LISTEN
          value: tcp:4005
        - name: RQDISCO_ADVERTISE
          value: http://$(RQDISCO_NAME).{{ $name }}-peers:4005
        - name: RQDISCO_PEER
          value: {{ range $number := until (int .Values.replicas) }}{{ if $number }} {{ end }}http://{{ $name }}-{{ $number }}.{{ $name }}-peers:4005{{ end }}
        - name: RQDISCO_PEER_KEYS
          value: /etc/rqdisco/peers/peer-keys
        - name: RQDISCO_GRANT_ACK
          value: {{ .Values.peers.grantAck }}
        {{- end }}
        {{- if eq .Values.mode "etcd" }}
        - name: RQDISCO_ETCD
          value: {{ join " " .Values.etcd.endpoints }}
        - name: RQDISCO_ETCD_PREFIX
          value: {{ .Values.etcd.prefix }}
        - name: RQDISCO_WAIT_FOR_ETCD
          value: {{ .Values.etcd.wait | quote }}
        {{- end }}
        {{- range $key, $value := .Values.env }}
        - name: {{ $key }}
          value: {{ $value | quote }}
        {{- end }}
      ports:
        - name: http
          containerPort: 4000
        {{- if eq .Values.mode "peers" }}
        - name: peers
          containerPort: 4005
        {{- end }}
        {{- if .Values.metrics.enabled }}
        - name: metrics
          containerPort: {{ .Values.metrics.port }}
        {{- end }}
      # A start with many IDs takes seconds.
      startupProbe:
        httpGet:
          path: /healthz
          port: http
        periodSeconds: 1
        failureThreshold: 300
      readinessProbe:
        httpGet:
          path: /readyz
          port: http
        periodSeconds: 5
      livenessProbe:
        httpGet:
          path: /healthz
          port: http
        periodSeconds: 10
        timeoutSeconds: 10
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: state
          mountPath: /var/lib/rqdisco
        {{- if .Values.access.tokensSecret }}
        - name: tokens
          mountPath: /etc/rqdisco/tokens
          readOnly: true
        {{- end }}
        {{- if eq .Values.mode "peers" }}
        - name: peer-keys
          mountPath: /etc/rqdisco/peers
          readOnly: true
        {{- end }}
  {{- if or .Values.access.tokensSecret (ne .Values.mode "single") }}
  volumes:
    {{- if eq .Values.mode "etcd" }}
    # The operator socket, and the last revision that this pod saw. The records are in etcd.
    - name: state
      emptyDir: {}
    {{- end }}
    {{- if .Values.access.tokensSecret }}
    - name: tokens
      secret:
        secretName: {{ .Values.access.tokensSecret }}
        defaultMode: 0440
    {{- end }}
    {{- if eq .Values.mode "peers" }}
    - name: peer-keys
      secret:
        secretName: {{ .Values.peers.keysSecret }}
        defaultMode: 0440
    {{- end }}
  {{- end }}
{{- end }}
