<?php
require __DIR__ . '/veilsupport.php';
$token = $_POST['token'] ?? '';
$code = $_POST['code'] ?? '';
$messages = [];
try {
    if ($_SERVER['REQUEST_METHOD'] === 'POST') {
        if (!$token) {
            ['token' => $token, 'code' => $code] = veilsupport('POST', '/auth/anonymous');
        }
        if (($_POST['message'] ?? '') !== '') {
            veilsupport('POST', '/chat/send', ['message' => $_POST['message'], 'id' => $_POST['id']], $token);
        }
        $messages = veilsupport('GET', '/chat/history', null, $token)['messages'];
    }
} catch (RuntimeException $error) {
    $trouble = $error->getMessage();
}
$safe = fn (string $text): string => htmlspecialchars($text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
header('Content-Type: text/html; charset=utf-8');
header('Cache-Control: no-store');
?>
<!doctype html>
<title>PHP: no script in the browser, and the visitor need not have Tor</title>
<p><?= $safe($trouble ?? '') ?></p>
<p id="code"><?= $safe($code) ?></p>
<ol><?php foreach ($messages as $each): ?><li><?= $safe($each['content']) ?></li><?php endforeach ?></ol>
<form method="post">
  <input type="hidden" name="token" value="<?= $safe($token) ?>">
  <input type="hidden" name="code" value="<?= $safe($code) ?>">
  <input type="hidden" name="id" value="<?= bin2hex(random_bytes(16)) ?>"><!-- a reload sends nothing twice -->
  <input name="message" maxlength="4000" aria-label="Your message"> <button>Send, or look for answers</button>
</form>
