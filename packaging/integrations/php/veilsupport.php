<?php
// Your server speaks to the desk, through the SOCKS port of a tor beside it. SOCKS name and password are the visitor's
// own, so that tor gives each visitor a circuit of their own and one cannot use up the limits of another.
function veilsupport(string $method, string $path, ?array $body = null, string $token = ''): array
{
    $call = curl_init(getenv('VEILSUPPORT_DESK') . '/api/v1' . $path);
    curl_setopt_array($call, [
        CURLOPT_PROXY => getenv('VEILSUPPORT_SOCKS') ?: '127.0.0.1:9050',
        CURLOPT_PROXYTYPE => CURLPROXY_SOCKS5_HOSTNAME, // tor resolves the name; nothing asks DNS for an onion
        CURLOPT_PROXYUSERPWD => ($token ? hash('sha256', $token) : bin2hex(random_bytes(16))) . ':veilsupport',
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => ['Content-Type: application/json', ...($token ? ["Authorization: Bearer $token"] : [])],
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 60,
    ] + ($body === null ? [] : [CURLOPT_POSTFIELDS => json_encode($body, JSON_THROW_ON_ERROR)]));
    $answer = curl_exec($call);
    if ($answer === false) {
        throw new RuntimeException('The desk cannot be reached.');
    }
    $told = $answer === '' ? [] : json_decode($answer, true, 64, JSON_THROW_ON_ERROR);
    if (curl_getinfo($call, CURLINFO_RESPONSE_CODE) >= 400) {
        throw new RuntimeException($told['error']['message']);
    }
    return $told;
}
