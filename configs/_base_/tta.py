# Test-time augmentation, used by tools/test.py --tta: every scale (a factor on the test
# pipeline's Resize) with every flip and rotation by a right angle.
tta_model = dict(type='MaskTTAModel')
tta_views = dict(
    scales=[1.0],
    elements=['identity', 'horizontal', 'vertical', 'diagonal',
              'transpose', 'rot90', 'rot270', 'antitranspose'])
