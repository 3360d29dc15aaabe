"""FetalFlex: anatomy-guided synthesis of fetal ultrasound.

A pure library: it imports neither prefect, dvc nor mlflow. Import the module that you need; this
package imports nothing by itself, so that `import fetalflex` costs nothing.
"""

__version__ = "0.1.0"
